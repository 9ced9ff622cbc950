from __future__ import annotations

import pytest

from serving.addresses import is_http, without_user


@pytest.mark.parametrize("url", ["http://a", "https://a.b:8000/v1", "http://[::1]:8080", "http://me:word@a"])
def test_the_complete_address_of_a_web_server_is_usable(url: str) -> None:
    assert is_http(url)


@pytest.mark.parametrize(
    "url", ["a", "ftp://a", "http://", "http://a:0", "http://a:port", "http://[::1", "http://\x7f/"]
)
def test_any_other_text_is_not_usable(url: str) -> None:
    assert not is_http(url)


def test_the_user_name_and_the_password_are_removed() -> None:
    assert without_user("http://me:pass@word@a:80/x@y?z@") == "http://a:80/x@y?z@"
    assert without_user("http://a/v1") == "http://a/v1"
