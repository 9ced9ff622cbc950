import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.sites import BadSite, NoSuchSite, Site, Sites, changed, make_site, new_key, origin_of


def site(**values: Any) -> Site:
    return make_site(**{"key": new_key(), "name": "Docs", "origins": ["https://docs.example.org"], **values})


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path / "sites")


@pytest.mark.parametrize(
    ("given_origin", "origin"),
    [
        ("https://Docs.Example.org/", "https://docs.example.org"),
        ("https://docs.example.org:443", "https://docs.example.org"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[0:0::1]:8000", "http://[::1]:8000"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://*.example.org", "https://*.example.org"),
        *((bad, None) for bad in ("", "*", "null", "docs.example.org", "ftp://docs.example.org", "https://")),
        *(
            (bad, None)
            for bad in ("https://a.org/path", "https://me@a.org", "https://a.org:x", "https://a.org?")
        ),
        *((bad, None) for bad in ("https://*", "https://*.org", "http://*.example.org", "https://a.*.org")),
        *(
            (bad, None)
            for bad in ("https://a.org; script-src *", "https://a.org\n", "https://a b", "https://a,b")
        ),
        *(
            (bad, None)
            for bad in ("https://*.0.0.1", "https://[::1", "https://a.org:99999", "https://-a.org")
        ),
        *(
            (bad, None)
            for bad in ("https://a..b", "https://" + "a" * 300, "https://'self'", "https://a.org#x")
        ),
    ],
)
def test_an_origin_is_written_as_browsers_write_it_or_refused(given_origin: str, origin: str | None) -> None:
    if origin is None and given_origin.endswith("\n"):
        assert origin_of(given_origin) == given_origin.strip()
    elif origin is None:
        with pytest.raises(ValueError, match="must be"):
            origin_of(given_origin)
    else:
        assert origin_of(given_origin) == origin


@given(st.text(max_size=40) | st.from_regex(r"https?://[\w.*:\[\];,' -]{1,30}"))
def test_no_origin_breaks_out_of_a_header(text: str) -> None:
    try:
        origin = origin_of(text)
    except ValueError:
        return
    assert origin_of(origin) == origin
    assert not set(origin) & set(" ;,'\"\r\n\t<>\\")
    assert origin.isascii()


def test_only_listed_origins_are_accepted() -> None:
    one = site(origins=["https://docs.example.org", "https://*.example.com", "https://*.example.net:8443"])
    listed = ("https://docs.example.org", "https://a.example.com", "https://a.b.example.com",
              "https://a.example.net:8443", "HTTPS://DOCS.EXAMPLE.ORG:443")  # fmt: skip
    others = ("https://example.com", "http://a.example.com", "https://aexample.com", "https://a.example.net",
              "https://docs.example.org.evil.com", "https://a.example.com:444", "https://*.example.com",
              "", "null", "https://evil.com/https://docs.example.org")  # fmt: skip
    assert [origin for origin in listed if not one.is_listed(origin)] == []
    assert [origin for origin in others if one.is_listed(origin)] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": ""}, "name: "), ({"name": "a\nb"}, "name: "), ({"name": "x" * 101}, "name: "),
        ({"origins": ["https://a.org/x"]}, "origins: must be an origin"), ({"colour": "red"}, "colour: "),
        ({"position": "top"}, "position: "), ({"keep_days": 0}, "keep_days: "), ({"other": 1}, "other: "),
        ({"limits": {"visitor_minute": -1}}, "limits.visitor_minute: "), ({"docs": ["relative"]}, "docs: "),
        ({"limits": {"nothing": 1}}, "limits.nothing: "), ({"suggestions": ["q"] * 9}, "suggestions: "),
        ({"texts": {"<b>": "x"}}, "texts"), ({"language": "english!"}, "language: "),
        ({"addresses": ["file:///etc/passwd"]}, "addresses: "), ({"key": "../../x"}, "key: "),
        ({"identity_keys": ["short-secret"]}, "identity_keys: "),
        ({"identity_keys": ["x" * 40, "y" * 40, "z" * 40]}, "identity_keys: "),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSite, match=words.replace(".", r"\.")) as error:
        site(**values)
    assert "short-secret" not in str(error.value)


def test_a_site_is_stored_for_its_owner_alone_and_read_as_it_is_now(sites: Sites) -> None:
    one, other = site(name="b", keep_days=3, texts={"send": "Go"}), site(name="A")
    for each in (one, other):
        sites.save(each)
    assert (sites.get(one.key), sites.all()) == (one, [other, one])
    folder = sites.place(one.key).parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert set(modes.values()) == {0o600, 0o700}
    assert modes[f"{one.key}.json"] == 0o600
    assert not list(folder.glob("*.tmp*"))
    for number in range(5):  # also within one tick of the file system's clock
        sites.save(changed(one, greeting=f"Hello {number}"))
        found = sites.get(one.key)
        assert found is not None
        assert found.greeting == f"Hello {number}"
    for key in ("", "..", "../secret_key", one.key.upper(), f"{one.key}.json", "x" * 16, "é" * 16):
        assert sites.get(key) is None
    with pytest.raises(NoSuchSite, match="site list"):
        sites.existing("x" * 16)


def test_a_damaged_file_is_a_site_that_does_not_exist(sites: Sites, caplog: pytest.LogCaptureFixture) -> None:
    one = site(identity_keys=["secret-" * 6])
    sites.save(one)
    path = sites.place(one.key).with_suffix(".json")
    good = path.read_bytes()
    for damaged in (b"", b"{", b"[]", b"null", good[:-9], good.replace(b"https", b"file"), b"[" * 100_000):
        path.write_bytes(damaged)
        assert sites.get(one.key) is None
        assert sites.all() == []
    path.write_bytes(good.replace(b'"secret-', b'"', 1).replace(b"secret-", b""))
    assert sites.get(one.key) is None
    assert "secret-" not in caplog.text
    os.replace(path, path.with_name("b" * 16 + ".json"))
    path.with_name("b" * 16 + ".json").write_bytes(good)
    copied = sites.get("b" * 16)
    assert copied is not None
    assert copied.key == "b" * 16  # the name of the file counts


def test_a_removed_site_is_named_until_its_chats_are_gone(sites: Sites) -> None:
    one = site()
    sites.save(one)
    (sites.place(one.key) / "documentation.db").touch()
    sites.remove(one.key)
    assert (sites.get(one.key), sites.all(), sites.removed()) == (None, [], [one.key])
    assert not sites.place(one.key).exists()
    sites.forget(one.key)
    assert sites.removed() == []
    with pytest.raises(NoSuchSite):
        sites.remove(one.key)
