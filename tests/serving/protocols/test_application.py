from __future__ import annotations

import pytest

from tests.serving.protocols.conftest import client
from tests.support.fake_engine import FakeEngine


@pytest.mark.parametrize("key", [None, "secret"])
@pytest.mark.parametrize("path", ["/v1/", "/v1/nowhere", "/v1//models", "/v1/health", "/v1", "/v10", "/no"])
async def test_each_path_has_the_error_shape_of_its_protocol(path: str, key: str | None) -> None:
    async with client(FakeEngine(), api_key=key) as http:
        answer = await http.get(path)
    assert answer.status_code == (404 if key is None else 401)
    is_openai = path.startswith("/v1/")
    assert ("error_type" in answer.json(), isinstance(answer.json()["error"], dict)) == (
        not is_openai,
        is_openai,
    )
