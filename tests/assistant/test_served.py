import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation import Role, Turn
from assistant.engine import STARTING, Download, Endpoint, EngineState, Licence
from assistant.errors import NoModel, NothingToFetch
from assistant.served import ServedModel
from assistant.settings import Settings, read_settings
from tests.support.fake_tgi import FakeTGI


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return read_settings([])


@pytest.fixture
async def watching(settings: Settings) -> AsyncIterator[Callable[..., ServedModel]]:
    started: list[ServedModel] = []

    def start(endpoint: Callable[[], Endpoint] | None, settings: Settings = settings) -> ServedModel:
        served = ServedModel(settings, endpoint)
        served.start(lambda: None)
        started.append(served)
        return served

    yield start
    for served in started:
        await served.close()


async def becomes(served: ServedModel, state: EngineState) -> None:
    async with asyncio.timeout(20):
        while served.status.state is not state:
            await asyncio.sleep(0.01)


async def test_a_base_model_gets_the_tech_assistant_prompt(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {
        "model_id": "/models/tiny.gguf",
        "model_sha": "abc",
        "max_total_tokens": 3000,
        "max_batch_size": 4,
    }
    served = watching(lambda: Endpoint(tgi.url, "key"))
    model = await served.ready(20)
    assert (model.model_name, model.revision, model.context) == ("tiny.gguf", "abc", 3000)
    assert model.bytes_per_token == pytest.approx(4, rel=0.05)
    assert "\nHuman:" in model.template.render([_question()], budget=9999, count=len).stop_sequences
    assert (served.status.state, served.status.parallel) == (EngineState.READY, 4)
    assert tgi.headers[0]["Authorization"] == "Bearer key"
    (beginning,) = tgi.beginnings
    prompt = model.template.render([_question()], budget=3000 - model.answer_tokens, count=model.count_tokens)
    assert prompt.text.startswith(beginning)
    assert len(prompt.text) - len(beginning) < 100


async def test_whoever_started_it_is_told_of_each_change(tgi: FakeTGI, settings: Settings) -> None:
    served = ServedModel(settings, lambda: Endpoint(tgi.url))
    changed = asyncio.Event()
    served.start(changed.set)
    await asyncio.wait_for(changed.wait(), 20)
    assert served.status.state is EngineState.READY
    await served.close()


async def test_what_an_engine_could_do_is_remembered_while_it_is_looked_at_again(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "m", "max_batch_size": 3}
    served = watching(lambda: Endpoint(tgi.url))
    await served.ready(20)
    served.look_now()
    assert (served.status.state, served.status.parallel) == (EngineState.LOADING, 3)
    await becomes(served, EngineState.READY)
    tgi.info = {"model_id": "m", "state": "loading"}
    served.look_now()
    async with asyncio.timeout(20):
        while served.status.detail is not None:
            await asyncio.sleep(0.01)
    assert (served.status.state, served.status.parallel) == (EngineState.LOADING, 3)


async def test_an_instruct_model_gets_its_own_template_unless_told_otherwise(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "m", "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}!"}
    own = await watching(lambda: Endpoint(tgi.url)).ready(20)
    assert own.template.render([_question()], budget=99, count=len).text == "why?!"
    ours = await watching(lambda: Endpoint(tgi.url), read_settings(["--prompt", "tech-assistant"])).ready(20)
    assert ours.template.render([_question()], budget=99999, count=len).text.endswith("Assistant:")


async def test_a_template_file_replaces_the_models_own(
    tgi: FakeTGI, watching: Callable[..., ServedModel], tmp_path: Path
) -> None:
    (tmp_path / "t.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    settings = read_settings(["--chat-template", str(tmp_path / "t.jinja")])
    model = await watching(lambda: Endpoint(tgi.url), settings).ready(20)
    assert model.template.render([_question()], budget=99, count=len).text == "[why?]"


async def test_a_question_waits_for_a_model_that_loads(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "m", "state": "loading", "state_detail": "43 %"}
    served = watching(lambda: Endpoint(tgi.url))
    waiting = asyncio.create_task(served.ready(20))
    async with asyncio.timeout(20):
        while served.status.detail != "43 %":
            await asyncio.sleep(0.01)
    tgi.info = {"model_id": "m", "state": "ready"}
    assert (await waiting).model_name == "m"


async def test_a_model_that_cannot_be_loaded_is_told_in_words(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "m", "state": "failed", "state_detail": "The file is broken."}
    served = watching(lambda: Endpoint(tgi.url))
    with pytest.raises(NoModel, match="cannot be used now; the application's log says why"):
        await served.ready(20)
    assert served.status.cause == "The file is broken."
    tgi.info = {"model_id": "m", "state": "ready"}
    served.look_now()
    await becomes(served, EngineState.READY)
    assert served.status.cause is None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"state": "surprising"},
        {"model_id": "m", "max_total_tokens": "many"},
        {"model_id": "m", "max_total_tokens": ["many"]},
        {"model_id": "m", "chat_template": 5},
        {"model_id": "m", "bos_token": 5},
    ],
)
async def test_a_server_that_answers_nonsense_has_failed(
    tgi: FakeTGI, watching: Callable[..., ServedModel], answer: dict[str, str] | None
) -> None:
    tgi.info = answer
    with pytest.raises(NoModel):
        await watching(lambda: Endpoint(tgi.url)).ready(20)


async def test_a_server_that_has_answered_nonsense_is_looked_at_again(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "m", "max_total_tokens": "many"}
    served = watching(lambda: Endpoint(tgi.url))
    await becomes(served, EngineState.FAILED)
    tgi.info = {"model_id": 7, "state_detail": 7}
    served.look_now()
    await becomes(served, EngineState.READY)
    assert served.status.model is None
    assert (await served.ready(20)).model_name == "unknown"


async def test_a_server_elsewhere_that_is_not_there(
    unused_tcp_port: int, watching: Callable[..., ServedModel]
) -> None:
    url = f"http://ann:canary@127.0.0.1:{unused_tcp_port}"
    settings = read_settings(["--serving-url", url])
    served = watching(lambda: Endpoint(url), settings)
    with pytest.raises(NoModel) as told:
        await served.ready(20)
    assert str(unused_tcp_port) not in str(told.value)
    assert f"http://127.0.0.1:{unused_tcp_port} cannot be reached" in str(served.status.cause)
    assert "canary" not in str(served.status)


async def test_a_child_that_is_restarted_is_found_at_its_new_place(
    tgi: FakeTGI, unused_tcp_port: int, watching: Callable[..., ServedModel]
) -> None:
    place = Endpoint(f"http://127.0.0.1:{unused_tcp_port}")
    served = watching(lambda: place)
    assert served.status.state is EngineState.LOADING
    place = Endpoint(tgi.url)
    assert (await served.ready(20)).base_url == tgi.url


async def test_a_child_that_will_not_start_says_why(watching: Callable[..., ServedModel]) -> None:
    served = watching(lambda: Endpoint(None, failure="/home/ann/m.gguf: no such file"))
    with pytest.raises(NoModel) as told:
        await served.ready(20)
    assert "/home" not in str(told.value)
    assert served.status.cause == "/home/ann/m.gguf: no such file"


async def test_what_was_there_and_loads_again_is_lost_until_it_is_back(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    place = Endpoint(tgi.url)
    served = watching(lambda: place)
    await served.ready(20)
    tgi.info = {"model_id": "m", "state": "loading"}
    served.look_now()
    assert not served.status.is_lost  # it is only being looked at
    async with asyncio.timeout(20):
        while not served.status.is_lost:
            await asyncio.sleep(0.01)
    place = Endpoint(None)  # it is started again
    for _ in range(2):
        served.look_now()
        await asyncio.sleep(0)
    with pytest.raises(NoModel):
        await served.ready(20, also_lost=False)
    tgi.info, place = {"model_id": "m"}, Endpoint(tgi.url)
    await served.ready(20)
    assert not served.status.is_lost


CANARY = "10.66.77.88"


@pytest.mark.parametrize("options", [["--upstream", f"http://{CANARY}:8000/v1"], ["--model", "m.gguf"]])
@pytest.mark.parametrize(
    "told",
    [
        {"state": "loading", "state_detail": f"The upstream at http://{CANARY}:8000 is still loading."},
        {"state": "failed", "state_detail": f"The upstream at http://{CANARY}:8000 cannot be reached."},
        {"state": "ready", "model_id": f"/srv/{CANARY}/model", "state_detail": f"{CANARY} is ill."},
        {"state": f"http://{CANARY}"},
        {"state": "ready", "chat_template": f"{{{{ raise_exception('{CANARY}') }}}}"},
        {
            "state": "none",
            "state_detail": f"/srv/{CANARY} cannot be written.",
            "download": {
                "state": "failed", "model": "m", "repo": "r", "file": "f", "bytes": 1, "licence": None,
            },
        },
    ],
)  # fmt: skip
async def test_what_everybody_is_told_names_no_address_and_no_path(
    tgi: FakeTGI, watching: Callable[..., ServedModel], options: list[str], told: dict[str, Any]
) -> None:
    if options[0] == "--model" and told["state"] == "loading":
        pytest.skip("the words of our own child, which has no upstream")
    tgi.info = {"model_id": "m", **told}
    served = watching(lambda: Endpoint(tgi.url), read_settings(options))
    async with asyncio.timeout(20):
        while served.status.detail == STARTING:
            await asyncio.sleep(0.01)
    assert CANARY not in f"{served.status.model} {served.status.detail}"
    assert served.status.state is EngineState.READY or CANARY in f"{served.status.cause}{told['state']}"


async def test_without_anything_to_serve(watching: Callable[..., ServedModel]) -> None:
    served = watching(None)
    assert served.status.state is EngineState.NONE
    with pytest.raises(NoModel, match="--model"):
        await served.ready(20)


DOWNLOAD = {
    "state": "running",
    "model": "Tiny",
    "repo": "Maker/Tiny-GGUF",
    "file": "tiny.gguf",
    "licence": "mit",
    "bytes": 100,
    "received": 40,
}


async def test_a_model_that_is_fetched_is_seen_and_not_waited_for(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {"model_id": "tiny.gguf", "state": "fetching", "download": DOWNLOAD}
    served = watching(lambda: Endpoint(tgi.url))
    await becomes(served, EngineState.FETCHING)
    assert served.status.download == Download(**DOWNLOAD)  # type: ignore[arg-type]
    with pytest.raises(NoModel):
        await served.ready(20)
    tgi.info = {"model_id": "tiny.gguf", "state": "ready"}
    await becomes(served, EngineState.READY)  # by itself
    assert served.status.download is None


async def test_where_there_is_no_model_the_server_says_why(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = {
        "state": "none",
        "state_detail": "It was declined.",
        "download": {**DOWNLOAD, "state": "declined"},
    }
    served = watching(lambda: Endpoint(tgi.url))
    await becomes(served, EngineState.NONE)
    with pytest.raises(NoModel, match="It was declined"):
        await served.ready(20)
    tgi.info = {"model_id": "tiny.gguf", "state": "ready"}
    await becomes(served, EngineState.READY)  # somebody has had it fetched


@pytest.mark.parametrize(
    "told",
    [{}, "nonsense", {**DOWNLOAD, "received": "x"}, {**DOWNLOAD, "bytes": "x"}, {**DOWNLOAD, "bytes": []}],
)
async def test_a_download_that_is_not_understood_is_none(
    tgi: FakeTGI, watching: Callable[..., ServedModel], told: object
) -> None:
    tgi.info = {"model_id": "m", "state": "fetching", "download": told}
    served = watching(lambda: Endpoint(tgi.url))
    await becomes(served, EngineState.FETCHING)
    assert served.status.download is None


async def test_the_licence_of_the_model_is_told(tgi: FakeTGI, watching: Callable[..., ServedModel]) -> None:
    licence = {"id": "x-rail", "name": "X RAIL", "url": "https://x.org", "must_accept": True}
    tgi.info = {"model_id": "m", "license": licence}
    served = watching(lambda: Endpoint(tgi.url))
    await served.ready(20)
    assert served.status.licence == Licence(**licence)  # type: ignore[arg-type]


async def test_a_download_is_steered_where_there_is_one(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    with pytest.raises(NothingToFetch):
        await watching(None).begin_download()
    served = watching(lambda: Endpoint(tgi.url))
    await served.ready(20)
    with pytest.raises(NothingToFetch):  # this server knows no downloads
        await served.decline_download()


async def test_whoever_steers_a_download_is_told_at_once_what_has_become_of_it(
    tgi: FakeTGI, watching: Callable[..., ServedModel]
) -> None:
    tgi.info = declined = {"state": "none", "download": {**DOWNLOAD, "state": "declined"}}
    tgi.steered = {"POST": {"state": "fetching", "download": DOWNLOAD}, "DELETE": declined}
    served = watching(lambda: Endpoint(tgi.url))
    await becomes(served, EngineState.NONE)
    for _ in range(3):
        await served.begin_download()
        assert served.status.state is EngineState.FETCHING
        await served.decline_download()
        assert served.status.state is EngineState.NONE


async def test_waiting_has_an_end(tgi: FakeTGI, watching: Callable[..., ServedModel]) -> None:
    tgi.info = {"state": "loading"}
    with pytest.raises(NoModel, match="not ready"):
        await watching(lambda: Endpoint(tgi.url)).ready(0.01)


def _question() -> Turn:
    return Turn(Role.USER, "why?")
