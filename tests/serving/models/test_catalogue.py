import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.models.catalogue import (
    APACHE,
    CATALOGUE,
    GB,
    OPENRAIL,
    Model,
    UnknownModel,
    choose,
    find,
    in_words,
    infilling_of,
    is_safe_path,
    licence_of,
)

BY_NAME = {model.name: model for model in CATALOGUE}
SMALL, DEFAULT, LARGE = (BY_NAME[f"qwen2.5-coder-{size}b"] for size in ("0.5", "1.5", "7"))


def put(model: Model, models: Path) -> None:
    path = model.path(models)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")


def test_a_model_is_found_by_its_name_its_file_or_a_path(tmp_path: Path) -> None:
    assert find("StarCoder2-3B") is BY_NAME["starcoder2-3b"]
    assert find(f"{DEFAULT.repo}:{DEFAULT.file}") is DEFAULT
    other = find(f"{DEFAULT.repo}:qwen2.5-coder-1.5b-instruct-q8_0.gguf")
    assert isinstance(other, Model)
    assert (other.title, other.licence) == ("qwen2.5-coder-1.5b-instruct-q8_0.gguf", APACHE)
    assert find("nowhere/m.gguf") == Path("nowhere/m.gguf")
    (tmp_path / "m").write_bytes(b"GGUF")
    assert find(str(tmp_path / "m")) == tmp_path / "m"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qwen2.5-coder-1.5", "did you mean qwen2.5-coder-1.5b?"),
        ("starcoder2", "did you mean starcoder2-3b, starcoder2-7b or starcoder2-15b?"),
        ("sarcoder", "did you mean starcoder"),
        ("gpt", "there are qwen2.5-coder-1.5b,"),
        ("bigcode/starcoder2-3b", "did you mean starcoder2-3b?"),
        ("Somebody/Model", "which of its files"),
        ("a/b:../c.gguf", "a file of a repository"),
        ("../..:c.gguf", "a file of a repository"),
        ("a/b:" + "x" * 300, "a file of a repository"),
        ("a/b:q8/m-00001-of-00003.gguf", "several files"),
        ("x" * 300, "there are qwen2.5-coder-1.5b,"),
    ],
)
def test_an_unknown_model_is_refused_with_similar_names(text: str, message: str) -> None:
    with pytest.raises(UnknownModel) as refused:
        find(text)
    assert message in str(refused.value)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab./:-~\\"), max_size=12))
def test_a_named_file_stays_in_the_folder_of_models(text: str) -> None:
    try:
        found = find(text)
    except UnknownModel:
        return
    if isinstance(found, Model):
        assert is_safe_path(found.repo, found.file)
        assert Path("/models") in Path(os.path.normpath(found.path(Path("/models")))).parents


def test_the_catalogue_is_complete() -> None:
    assert len(BY_NAME) == len(CATALOGUE)
    for model in CATALOGUE:
        assert find(model.name) is model
        assert model.licence is not None
        assert model.memory is not None
        assert model.bytes is not None
        assert model.memory > model.bytes
        # The author of a converted file is named.
        assert model.converted_by is None or model.repo.startswith(model.converted_by + "/")
        assert model.converted_by is not None or model.of is not None
        assert (model.repo.split("/")[0] == str(model.of).split("/")[0]) == (model.converted_by is None)


@pytest.mark.parametrize(
    ("memory", "chosen"),
    [(None, DEFAULT), (64 * GB, DEFAULT), (4 * GB, DEFAULT), (2 * GB, SMALL), (GB, None)],
)
def test_the_chosen_model_fits_into_memory(memory: int | None, chosen: Model | None, tmp_path: Path) -> None:
    assert choose(tmp_path / "none", memory) is chosen


def test_a_model_on_the_disk_is_preferred(tmp_path: Path) -> None:
    assert choose(tmp_path, 16 * GB) is DEFAULT
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my.gguf").write_bytes(b"GGUF")
    (tmp_path / "mine" / "mmproj-my.gguf").write_bytes(b"GGUF")
    assert choose(tmp_path, 16 * GB) == tmp_path / "mine" / "my.gguf"
    put(BY_NAME["starcoder2-15b"], tmp_path)
    put(LARGE, tmp_path)
    assert choose(tmp_path, 16 * GB) is LARGE  # it was trained to answer
    put(DEFAULT, tmp_path)
    assert choose(tmp_path, 16 * GB) is DEFAULT
    put(SMALL, tmp_path)
    assert choose(tmp_path, 2 * GB) is SMALL


def test_a_model_on_the_disk_that_is_too_large_is_not_chosen(tmp_path: Path) -> None:
    put(LARGE, tmp_path)
    with LARGE.path(tmp_path).open("wb") as file:
        file.truncate(4 * GB)
    assert choose(tmp_path, 2 * GB) is SMALL


def test_the_licence_comes_from_the_id_or_from_the_file() -> None:
    assert licence_of("bigcode/starcoder2-15b") is OPENRAIL
    assert licence_of("/models/starcoder2-3b-Q4_K_M.gguf") is OPENRAIL
    assert licence_of("starcoder2:15b") is OPENRAIL
    assert licence_of("Somebody/my-starcoder-tuned") is OPENRAIL
    assert licence_of("Somebody/starcoder-like", "MIT") == licence_of(None, "mit")
    assert licence_of(DEFAULT.file) is APACHE
    assert licence_of("/models/m.gguf") is None
    assert licence_of(None) is None
    other = licence_of("m.gguf", "openrail++", "Some RAIL", "https://x.org/terms")
    assert other is not None
    assert (other.must_accept, other.name, other.url) == (True, "Some RAIL", "https://x.org/terms")
    assert licence_of("m.gguf", "bigcode-openrail-m") is OPENRAIL
    railway = licence_of("m.gguf", "railway-1.0")
    assert railway is not None
    assert not railway.must_accept


def test_the_infilling_markers_come_from_the_id() -> None:
    for name in ("bigcode/starcoder2-3b", "/models/starcoder2-3b-Q4_K_M.gguf", "starcoder2:3b"):
        assert infilling_of(name) == BY_NAME["starcoder2-3b"].infilling
    assert infilling_of("Qwen/Qwen2.5-Coder-32B") == DEFAULT.infilling
    assert infilling_of("llama") is None


def test_sizes_in_words() -> None:
    sizes = [in_words(size) for size in (5, 1500, 12_000_000, 1_120_000_000)]
    assert sizes == ["5 B", "1.5 kB", "12 MB", "1.1 GB"]


def test_a_model_is_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT.name = "x"  # type: ignore[misc]
