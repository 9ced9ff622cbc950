import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation import Role, Turn
from assistant.engine import STARTING, Download, Endpoint, EngineState, Licence
from assistant.errors import NoModel, NothingToFetch
from assistant.served import ServedModel
from assistant.settings import read_settings
from prompts.size import LARGE, SMALL, TINY, ModelSize
from tests.assistant.conftest import until
from tests.support.fake_tgi import FakeTGI

Watch = Callable[..., ServedModel]


@pytest.fixture
async def watching() -> AsyncIterator[Watch]:
    started: list[ServedModel] = []

    def start(endpoint: Callable[[], Endpoint] | None, *options: str) -> ServedModel:
        served = ServedModel(read_settings(options), endpoint)
        served.start(lambda: None)
        started.append(served)
        return served

    yield start
    for served in started:
        await served.close()


@pytest.fixture
def watch(tgi: FakeTGI, watching: Watch) -> Watch:
    """Watches a server that describes itself by `info`."""

    def start(info: dict[str, Any] | None, *options: str) -> ServedModel:
        tgi.info = info
        return watching(lambda: Endpoint(tgi.url), *options)

    return start


async def becomes(served: ServedModel, state: EngineState) -> None:
    await until(lambda: served.status.state is state)


async def test_a_base_model_gets_the_tech_assistant_prompt(tgi: FakeTGI, watching: Watch) -> None:
    info = {"model_id": "/models/tiny.gguf", "model_sha": "abc"}
    tgi.info = {**info, "max_total_tokens": 3000, "max_batch_size": 4}
    served = watching(lambda: Endpoint(tgi.url, "key"))
    model = await served.ready(20)
    assert (model.model_name, model.revision, model.context) == ("tiny.gguf", "abc", 3000)
    assert model.bytes_per_token == pytest.approx(4, rel=0.05)
    assert "\nHuman:" in model.template.stop_sequences
    assert (served.status.state, served.status.parallel) == (EngineState.READY, 4)
    assert tgi.headers[0]["Authorization"] == "Bearer key"
    (beginning,) = tgi.beginnings
    prompt = model.template.render([_question()], budget=3000 - model.answer_tokens, count=model.count_tokens)
    assert prompt.text.startswith(beginning)
    assert len(prompt.text) - len(beginning) < 100


@pytest.mark.parametrize(
    ("info", "size"),
    [
        ({"model_id": "m", "parameters": 134_515_008}, TINY),
        ({"model_id": "Tiny-70B", "parameters": 999_000_000}, TINY),
        ({"model_id": "m", "parameters": "many"}, LARGE),
        ({"model_id": "SmolLM2-135M-Instruct.Q4_1.gguf"}, TINY),
        ({"model_id": "/models/qwen2.5-coder-0.5b-instruct-q8_0.gguf"}, TINY),
        ({"model_id": "google/gemma-3-270m-it"}, TINY),
        ({"model_id": "llama3.2:1b"}, SMALL),
        ({"model_id": "starcoder2-3b-Q4_K_M.gguf"}, SMALL),
        ({"model_id": "Qwen/Qwen2.5-1.5B-Instruct-1M"}, SMALL),
        ({"model_id": "Mixtral-8x7B-Instruct"}, LARGE),
        ({"model_id": "Qwen3-Coder-30B-A3B-Instruct-Q4_K_M.gguf"}, LARGE),
        ({"model_id": "gpt-4o-mini"}, LARGE),
        ({"model_id": "model-v0.1beta-4bit-128k"}, LARGE),
    ],
)
async def test_the_size_of_a_model_is_what_its_server_reports_or_else_its_name_says(
    watch: Watch, info: dict[str, Any], size: ModelSize
) -> None:
    assert (await watch(info).ready(20)).template.size == size


async def test_whoever_started_it_is_told_of_each_change(tgi: FakeTGI) -> None:
    served = ServedModel(read_settings([]), lambda: Endpoint(tgi.url))
    changed = asyncio.Event()
    served.start(changed.set)
    await asyncio.wait_for(changed.wait(), 20)
    assert served.status.state is EngineState.READY
    await served.close()


async def test_how_many_answers_an_engine_computes_is_remembered(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"model_id": "m", "max_batch_size": 3})
    await served.ready(20)
    served.look_now()
    assert (served.status.state, served.status.parallel) == (EngineState.LOADING, 3)
    await becomes(served, EngineState.READY)
    tgi.info = {"model_id": "m", "state": "loading"}
    served.look_now()
    await until(lambda: served.status.detail is None)
    assert (served.status.state, served.status.parallel) == (EngineState.LOADING, 3)


async def test_an_instruct_model_gets_its_own_template_unless_told_otherwise(watch: Watch) -> None:
    info = {"model_id": "m", "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}!"}
    own = await watch(info).ready(20)
    assert own.template.render([_question()], budget=99, count=len).text == "why?!"
    ours = await watch(info, "--prompt", "tech-assistant").ready(20)
    assert ours.template.render([_question()], budget=99999, count=len).text.endswith("Assistant:")


async def test_a_template_file_replaces_the_models_own(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "t.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    model = await watch({"model_id": "m"}, "--chat-template", str(tmp_path / "t.jinja")).ready(20)
    assert model.template.render([_question()], budget=99, count=len).text == "[why?]"


async def test_a_question_waits_for_a_model_that_loads(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"model_id": "m", "state": "loading", "state_detail": "43 %"})
    waiting = asyncio.create_task(served.ready(20))
    await until(lambda: served.status.detail == "43 %")
    tgi.info = {"model_id": "m", "state": "ready"}
    assert (await waiting).model_name == "m"


async def test_a_model_that_cannot_be_loaded_is_told_in_words(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"model_id": "m", "state": "failed", "state_detail": "The file is broken."})
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
        *(None, {"state": "surprising"}, {"model_id": "m", "chat_template": 5}),
        *({"model_id": "m", "max_total_tokens": number} for number in ("many", ["many"])),
        {"model_id": "m", "bos_token": 5},
    ],
)
async def test_a_server_that_answers_nonsense_has_failed(answer: dict[str, str] | None, watch: Watch) -> None:
    with pytest.raises(NoModel):
        await watch(answer).ready(20)


async def test_a_server_that_has_answered_nonsense_is_looked_at_again(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"model_id": "m", "max_total_tokens": "many"})
    await becomes(served, EngineState.FAILED)
    tgi.info = {"model_id": 7, "state_detail": 7}
    served.look_now()
    await becomes(served, EngineState.READY)
    assert served.status.model is None
    assert (await served.ready(20)).model_name == "unknown"


async def test_a_server_elsewhere_that_is_not_there(unused_tcp_port: int, watching: Watch) -> None:
    url = f"http://ann:canary@127.0.0.1:{unused_tcp_port}"
    served = watching(lambda: Endpoint(url), "--serving-url", url)
    with pytest.raises(NoModel) as told:
        await served.ready(20)
    assert str(unused_tcp_port) not in str(told.value)
    assert f"http://127.0.0.1:{unused_tcp_port} cannot be reached" in str(served.status.cause)
    assert "canary" not in str(served.status)


async def test_a_child_that_is_restarted_is_found_at_its_new_place(
    tgi: FakeTGI, unused_tcp_port: int, watching: Watch
) -> None:
    place = Endpoint(f"http://127.0.0.1:{unused_tcp_port}")
    served = watching(lambda: place)
    assert served.status.state is EngineState.LOADING
    place = Endpoint(tgi.url)
    assert (await served.ready(20)).base_url == tgi.url


async def test_a_child_that_will_not_start_says_why(watching: Watch) -> None:
    served = watching(lambda: Endpoint(None, failure="/home/ann/m.gguf: no such file"))
    with pytest.raises(NoModel) as told:
        await served.ready(20)
    assert "/home" not in str(told.value)
    assert served.status.cause == "/home/ann/m.gguf: no such file"


async def test_what_was_there_and_loads_again_is_lost_until_it_is_back(tgi: FakeTGI, watching: Watch) -> None:
    place = Endpoint(tgi.url)
    served = watching(lambda: place)
    await served.ready(20)
    tgi.info = {"model_id": "m", "state": "loading"}
    served.look_now()
    assert not served.status.is_lost  # it is only being looked at
    await until(lambda: served.status.is_lost)
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
DOWNLOAD = {"state": "running", "model": "Tiny", "repo": "Maker/Tiny-GGUF", "file": "tiny.gguf"}
DOWNLOAD |= {"licence": "mit", "bytes": 100, "received": 40}
FAILED_DOWNLOAD = {"state": "failed", "model": "m", "repo": "r", "file": "f", "bytes": 1, "licence": None}
DECLINED_DOWNLOAD = {**DOWNLOAD, "state": "declined"}


@pytest.mark.parametrize("options", [["--upstream", f"http://{CANARY}:8000/v1"], ["--model", "m.gguf"]])
@pytest.mark.parametrize(
    "told",
    [
        {"state": "loading", "state_detail": f"The upstream at http://{CANARY}:8000 is still loading."},
        {"state": "failed", "state_detail": f"The upstream at http://{CANARY}:8000 cannot be reached."},
        {"state": "ready", "model_id": f"/srv/{CANARY}/model", "state_detail": f"{CANARY} is ill."},
        {"state": f"http://{CANARY}"},
        {"state": "ready", "chat_template": f"{{{{ raise_exception('{CANARY}') }}}}"},
        {"state": "none", "state_detail": f"/srv/{CANARY} cannot be written.", "download": FAILED_DOWNLOAD},
    ],
)
async def test_what_everybody_is_told_names_no_address_and_no_path(
    options: list[str], told: dict[str, Any], watch: Watch
) -> None:
    if options[0] == "--model" and told["state"] == "loading":
        pytest.skip("the words of our own child, which has no upstream")
    served = watch({"model_id": "m", **told}, *options)
    await until(lambda: served.status.detail != STARTING)
    assert CANARY not in f"{served.status.model} {served.status.detail}"
    assert served.status.state is EngineState.READY or CANARY in f"{served.status.cause}{told['state']}"


async def test_without_anything_to_serve(watching: Watch) -> None:
    served = watching(None)
    assert served.status.state is EngineState.NONE
    with pytest.raises(NoModel, match="--model"):
        await served.ready(20)


async def test_a_model_that_is_fetched_is_seen_and_not_waited_for(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"model_id": "tiny.gguf", "state": "fetching", "download": DOWNLOAD})
    await becomes(served, EngineState.FETCHING)
    assert served.status.download == Download(**DOWNLOAD)  # type: ignore[arg-type]
    with pytest.raises(NoModel):
        await served.ready(20)
    tgi.info = {"model_id": "tiny.gguf", "state": "ready"}
    await becomes(served, EngineState.READY)  # by itself
    assert served.status.download is None


async def test_where_there_is_no_model_the_server_says_why(tgi: FakeTGI, watch: Watch) -> None:
    served = watch({"state": "none", "state_detail": "It was declined.", "download": DECLINED_DOWNLOAD})
    await becomes(served, EngineState.NONE)
    with pytest.raises(NoModel, match="It was declined"):
        await served.ready(20)
    tgi.info = {"model_id": "tiny.gguf", "state": "ready"}
    await becomes(served, EngineState.READY)  # somebody has had it fetched


@pytest.mark.parametrize(
    "told",
    [{}, "nonsense", {**DOWNLOAD, "received": "x"}, {**DOWNLOAD, "bytes": "x"}, {**DOWNLOAD, "bytes": []}],
)
async def test_a_download_that_is_not_understood_is_none(told: object, watch: Watch) -> None:
    served = watch({"model_id": "m", "state": "fetching", "download": told})
    await becomes(served, EngineState.FETCHING)
    assert served.status.download is None


async def test_the_licence_of_the_model_is_told(watch: Watch) -> None:
    licence = {"id": "x-rail", "name": "X RAIL", "url": "https://x.org", "must_accept": True}
    served = watch({"model_id": "m", "license": licence})
    await served.ready(20)
    assert served.status.licence == Licence(**licence)  # type: ignore[arg-type]


async def test_a_download_is_steered_where_there_is_one(tgi: FakeTGI, watching: Watch) -> None:
    with pytest.raises(NothingToFetch):
        await watching(None).begin_download()
    served = watching(lambda: Endpoint(tgi.url))
    await served.ready(20)
    with pytest.raises(NothingToFetch):  # this server knows no downloads
        await served.decline_download()


async def test_whoever_steers_a_download_is_told_at_once_what_has_become_of_it(
    tgi: FakeTGI, watch: Watch
) -> None:
    declined = {"state": "none", "download": DECLINED_DOWNLOAD}
    tgi.steered = {"POST": {"state": "fetching", "download": DOWNLOAD}, "DELETE": declined}
    served = watch(declined)
    await becomes(served, EngineState.NONE)
    for _ in range(3):
        await served.begin_download()
        assert served.status.state is EngineState.FETCHING
        await served.decline_download()
        assert served.status.state is EngineState.NONE


async def test_waiting_has_an_end(watch: Watch) -> None:
    with pytest.raises(NoModel, match="not ready"):
        await watch({"state": "loading"}).ready(0.01)


def _question() -> Turn:
    return Turn(Role.USER, "why?")
