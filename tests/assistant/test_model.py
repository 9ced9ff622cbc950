import asyncio
import json

import pytest
from aiohttp import web
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from assistant import model as model_module
from assistant.errors import Broken, Overloaded, PromptTooLong, Refused, Unreachable
from assistant.model import TechAssistantChat
from prompts.render import QuestionTooLong
from tests.support.fake_tgi import FakeTGI, last, token


def chat(tgi: FakeTGI, **more: object) -> TechAssistantChat:
    return TechAssistantChat(base_url=tgi.url, model="fake", **more)


async def answer(model: TechAssistantChat, text: str = "q", **options: object) -> str:
    return "".join([chunk.text async for chunk in model.astream(text, **options)])


async def test_an_answer_streams_and_tells_how_it_ended(tgi: FakeTGI) -> None:
    tgi.answers = [[token(" Use"), token(" `open`"), last(" 🦀.", "stop_sequence")]]
    chunks = [chunk async for chunk in chat(tgi).astream("q")]
    assert "".join(chunk.text for chunk in chunks) == "Use `open` 🦀."
    metadata = chunks[-1].response_metadata or chunks[-2].response_metadata
    assert metadata["finish_reason"] == "stop_sequence"
    assert metadata["seed"] == 7
    assert len(metadata["template_hash"]) == 64
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage == [{"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}]


async def test_the_prompt_holds_the_turns_and_the_stops(tgi: FakeTGI) -> None:
    tgi.answers = [[last()]]
    messages = [SystemMessage("Be brief."), HumanMessage("q1"), AIMessage("a1"), HumanMessage("q2")]
    await chat(tgi, temperature=0, stop=["END"]).ainvoke(messages)
    request = tgi.requests[0]
    assert request["inputs"].endswith(
        "\n\nHuman: Be brief.\n\nq1\n\nAssistant: a1\n\nHuman: q2\n\nAssistant:"
    )
    parameters = request["parameters"]
    assert parameters["stop"] == ["\nHuman:", "\nAssistant:", "\n-----\n\nHuman:", "END"]
    assert parameters["do_sample"] is False
    assert parameters["temperature"] is None


async def test_special_tokens_are_not_text(tgi: FakeTGI) -> None:
    tgi.answers = [[token("yes"), token("<|eos|>", special=True), last()]]
    assert await answer(chat(tgi)) == "yes"


async def test_the_key_is_sent_and_not_shown(tgi: FakeTGI) -> None:
    tgi.answers = [[last()]]
    model = chat(tgi, api_key="secret-key")
    await model.ainvoke("q")
    assert tgi.headers[-1]["Authorization"] == "Bearer secret-key"
    assert "secret-key" not in repr(model)


async def test_pieces_of_an_event_may_come_in_any_cut(tgi: FakeTGI) -> None:
    data = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in (token("é🦀"), last("!")))
    tgi.answers = [[b": keep-alive\n\n", *(bytes([byte]) for byte in data)]]
    assert await answer(chat(tgi)) == "é🦀!"


async def test_an_event_may_be_larger_than_half_a_mebibyte(tgi: FakeTGI) -> None:
    text = "x" * 600_000
    tgi.answers = [[token(text), last()]]
    assert await answer(chat(tgi)) == text


@pytest.mark.parametrize(
    ("answered", "error"),
    [
        (web.json_response({"error": "full", "error_type": "overloaded"}, status=429), Overloaded),
        (web.json_response({"error": "bad seed", "error_type": "validation"}, status=422), Refused),
        (web.json_response({"error": "oops", "error_type": "generation"}, status=424), Broken),
        (web.Response(text="<html>no</html>", status=500), Broken),
        (web.Response(text="", status=503), Unreachable),
        ([{"error": "loading", "error_type": "unhealthy"}], Unreachable),
        ([{"error": "oops", "error_type": "incomplete_generation"}], Broken),
        ([token("half"), {"error": "oops", "error_type": "incomplete_generation"}], Broken),
        ([b"data: {half\n\n"], Broken),
        ([b"data: \xff\xfe\n\n"], Broken),
        ([b"<html>\n"], Broken),
        ([token("half")], Broken),
        ([], Broken),
        ([token("half"), ConnectionResetError], Unreachable),
        ([b"data: " + b"x" * (2 << 20)], Broken),
    ],
)
async def test_whatever_goes_wrong_is_one_of_our_errors(
    tgi: FakeTGI, answered: object, error: type[Exception]
) -> None:
    tgi.answers = [answered]
    with pytest.raises(error) as caught:
        await answer(chat(tgi))
    assert str(caught.value)


async def test_a_server_that_is_not_there(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable):
        await answer(TechAssistantChat(base_url=f"http://127.0.0.1:{unused_tcp_port}"))


async def test_silence_is_noticed(tgi: FakeTGI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_module, "SILENCE_SECONDS", 0.05)
    tgi.answers = [[token("half"), asyncio.Event()]]
    with pytest.raises(Unreachable, match="silent"):
        await answer(chat(tgi))


async def test_closing_the_stream_leaves_the_server(tgi: FakeTGI) -> None:
    tgi.answers = [[token("half"), asyncio.Event()]]
    stream = chat(tgi).astream("q")
    assert (await anext(stream)).text == "half"
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await tgi.left.wait()


async def test_a_prompt_that_the_server_finds_too_long_is_fitted_again(tgi: FakeTGI) -> None:
    too_long = {
        "error": "`inputs` tokens + `max_new_tokens` must be <= 9000. Given: 9200 and 100",
        "error_type": "validation",
    }
    tgi.answers = [[too_long], web.json_response(too_long, status=422), [token("yes"), last()]]
    turns = [HumanMessage("q" * 3000), AIMessage("a" * 3000)] * 6
    model = chat(tgi, context=9000, max_tokens=100)
    assert (await model.ainvoke([*turns, HumanMessage("last")])).text == "yes"
    lengths = [len(request["inputs"]) for request in tgi.requests]
    assert lengths[0] >= lengths[1] >= lengths[2] < lengths[0]
    assert all("last\n\nAssistant:" in request["inputs"] for request in tgi.requests)


async def test_a_prompt_that_never_fits_says_so(tgi: FakeTGI) -> None:
    refusal = [{"error": "must have less than 10 tokens", "error_type": "validation"}]
    tgi.answers = [refusal] * 20
    with pytest.raises(PromptTooLong, match="less than 10 tokens"):
        await answer(chat(tgi, context=16384))


async def test_the_synchronous_calls_work_inside_a_running_loop(tgi: FakeTGI) -> None:
    tgi.answers = [[token("one"), last()], [token("a"), token("b"), last()]]
    model = chat(tgi)

    def work() -> tuple[str, str]:
        return model.invoke("q").text, "".join(chunk.text for chunk in model.stream("q"))

    assert await asyncio.to_thread(work) == ("one", "ab")


async def test_a_question_that_only_seems_too_long_is_counted(tgi: FakeTGI) -> None:
    tgi.tokens_of_a_byte = 0.2
    tgi.answers = [[token("yes"), last()]]
    model = chat(tgi, context=8000, max_tokens=100, bytes_per_token=2.0)
    question = "word " * 3000  # estimated at 7,500 tokens, counted as 3,000
    assert await answer(model, question) == "yes"
    tgi.tokens_of_a_byte = 0.6
    with pytest.raises(QuestionTooLong):
        await answer(model, question)
