"""The bundle of the frame is what the build made of the sources as they are now."""

from __future__ import annotations

import gzip
import hashlib
import json

from assistant.web.static_files import STATIC

BUILT = STATIC / "widget" / "built"
LANGUAGES = STATIC / "widget" / "languages"


def test_the_bundle_is_as_new_as_its_sources() -> None:
    listed = dict(line.split()[::-1] for line in (BUILT / "SHA256SUMS").read_text().splitlines())
    found = {path: hashlib.sha256((STATIC / path).read_bytes()).hexdigest() for path in listed}
    assert found == listed, "run `sh scripts/vendor`"
    assert {"api.js", "chat.css", "chat.js", "widget/frame.css", "widget/frame.js"} <= set(listed)
    built = {f"widget/built/{path.name}" for path in BUILT.iterdir()} - {"widget/built/SHA256SUMS"}
    assert built == {"widget/built/frame.css", "widget/built/frame.js"} <= set(listed)


def test_script_and_styles_leave_room_for_the_rest_of_the_first_view() -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in BUILT.glob("frame.*")}
    assert sum(sizes.values()) <= 58_700, sizes


def test_each_language_has_the_same_texts() -> None:
    files = sorted(LANGUAGES.glob("*.json"))
    texts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    assert [file.stem for file in files] == ["de", "es", "fr", "ja", "pt", "zh"]
    for text in texts:
        assert {name: set(words) for name, words in text.items()} == {
            name: set(words) for name, words in texts[0].items()
        }
        assert all(word.strip() for words in text.values() for word in words.values())
