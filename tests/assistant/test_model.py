import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from assistant.conversation import Role, Source, Turn
from assistant.errors import PromptTooLong
from assistant.model import TechAssistantChat
from prompts.render import QuestionTooLong
from tests.support.fake_tgi import FakeTGI, last, token


def chat(tgi: FakeTGI, **more: object) -> TechAssistantChat:
    return TechAssistantChat(base_url=tgi.url, model="fake", **more)


async def answer(model: TechAssistantChat, text: str = "q", **options: object) -> str:
    return "".join([chunk.text async for chunk in model.astream(text, **options)])


async def test_an_answer_streams_and_ends_with_its_metadata(tgi: FakeTGI) -> None:
    tgi.answers = [[token(" Use"), token(" `open`"), last(" 🦀.", "stop_sequence")]]
    chunks = [chunk async for chunk in chat(tgi).astream("q")]
    assert "".join(chunk.text for chunk in chunks) == "Use `open` 🦀."
    metadata = chunks[-1].response_metadata or chunks[-2].response_metadata
    assert metadata["finish_reason"] == "stop_sequence"
    assert metadata["seed"] == 7
    assert len(metadata["template_hash"]) == 64
    usage = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert usage == [{"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}]


async def test_a_request_has_the_turns_and_the_stop_sequences(tgi: FakeTGI) -> None:
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


async def test_a_request_names_its_conversation_and_has_the_key_which_is_not_shown(tgi: FakeTGI) -> None:
    tgi.answers = [[last()], [last()]]
    model = chat(tgi, api_key="secret-key")
    for session in ("conversation-1", None):
        [_ async for _ in model.answer([Turn(Role.USER, "q")], session=session)]
    assert [headers.get("X-Session-Id") for headers in tgi.headers] == ["conversation-1", None]
    assert [headers["Authorization"] for headers in tgi.headers] == ["Bearer secret-key"] * 2
    assert "secret-key" not in repr(model)
    assert tgi.requests[0]["parameters"]["logprobs"] is False


async def test_special_tokens_are_not_text(tgi: FakeTGI) -> None:
    tgi.answers = [[token("yes"), token("<|eos|>", special=True), last()]]
    assert await answer(chat(tgi)) == "yes"


async def test_closing_the_stream_closes_the_connection(tgi: FakeTGI) -> None:
    tgi.answers = [[token("half"), asyncio.Event()]]
    stream = chat(tgi).astream("q")
    assert (await anext(stream)).text == "half"
    await stream.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        await tgi.left.wait()


async def test_a_prompt_that_the_server_finds_too_long_is_shortened(tgi: FakeTGI) -> None:
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


async def test_a_prompt_that_never_fits_is_an_error(tgi: FakeTGI) -> None:
    rejection = [{"error": "must have less than 10 tokens", "error_type": "validation"}]
    tgi.answers = [rejection] * 20
    with pytest.raises(PromptTooLong, match="too long for the model") as error:
        await answer(chat(tgi, context=16384))
    assert "less than 10 tokens" in str(error.value.__cause__)  # for the log


async def test_the_synchronous_calls_work_inside_a_running_loop(tgi: FakeTGI) -> None:
    tgi.answers = [[token("one"), last()], [token("a"), token("b"), last()]]
    model = chat(tgi)

    def work() -> tuple[str, str]:
        return model.invoke("q").text, "".join(chunk.text for chunk in model.stream("q"))

    assert await asyncio.to_thread(work) == ("one", "ab")


async def test_the_server_counts_a_question_that_seems_too_long(tgi: FakeTGI) -> None:
    tgi.tokens_of_a_byte = 0.2
    tgi.answers = [[token("yes"), last()]]
    model = chat(tgi, context=8000, max_tokens=100, bytes_per_token=2.0)
    question = "word " * 3000  # estimated at 7,500 tokens, counted as 3,000
    assert await answer(model, question) == "yes"
    tgi.tokens_of_a_byte = 0.6
    with pytest.raises(QuestionTooLong):
        await answer(model, question)


# Passages of documentation

PASSAGES = [
    Source(name, name, "Python", "3.11", "PSF-2.0", f"{name}.__doc__", "", "Remove.\n" * 20)
    for name in ("shutil.rmtree", "os.rmdir")
]
QUESTION = [Turn(Role.USER, "How do I remove a folder?")]
TOO_LONG = {"error": "`inputs` must have less than 999 tokens. Given: 1000", "error_type": "validation"}


async def streamed(
    model: TechAssistantChat, turns: Sequence[Turn] = QUESTION, passages: Sequence[Source] = PASSAGES
) -> list[object]:
    """The numbers of used passages and the texts of an answer, in their order."""
    return [
        chunk.response_metadata.get("passages_used", chunk.text)
        async for chunk in model.answer(turns, passages=passages)
    ]


def passages_in(request: dict[str, Any]) -> int:
    """The number of passages in a request's prompt."""
    return len(re.findall(r"^\[\d\] ", request["inputs"].partition("Documentation was")[2], re.MULTILINE))


async def test_the_number_of_used_passages_comes_before_the_text(tgi: FakeTGI) -> None:
    computing = asyncio.Event()
    tgi.answers = [[computing, token("It"), last()]]
    answer = chat(tgi).answer(QUESTION, passages=PASSAGES)
    first = await anext(answer)
    assert (first.text, first.response_metadata) == ("", {"passages_used": 2})
    assert tgi.requests[0]["inputs"].endswith("\n\nQuestion: How do I remove a folder?\n\nAssistant:")
    assert passages_in(tgi.requests[0]) == 2
    computing.set()
    text, end = [chunk async for chunk in answer]
    assert text.text == "It"
    bare = chat(tgi).template.template_hash
    assert len(end.response_metadata["template_hash"]) == len(bare)
    assert end.response_metadata["template_hash"] != bare
    assert "passages_used" not in end.response_metadata


async def test_a_search_without_results_is_reported_and_no_search_is_not(tgi: FakeTGI) -> None:
    tgi.answers = [[token("It"), last()]] * 3
    assert await streamed(chat(tgi), passages=[]) == [0, "It", ""]
    assert [chunk.text async for chunk in chat(tgi).answer(QUESTION)] == ["It", ""]
    assert await answer(chat(tgi), QUESTION[0].content) == "It"
    assert len({request["inputs"] for request in tgi.requests}) == 1


async def test_the_passages_of_a_rejected_prompt_are_not_reported(tgi: FakeTGI) -> None:
    tgi.answers = [web.json_response(TOO_LONG, status=422), [token("It"), last()]]
    assert await streamed(chat(tgi, context=2200, max_tokens=100)) == [1, "It", ""]
    assert [passages_in(request) for request in tgi.requests] == [2, 1]


async def test_after_a_late_rejection_the_number_of_passages_comes_again(tgi: FakeTGI) -> None:
    tgi.answers = [[TOO_LONG], [token("It"), last()]]
    assert await streamed(chat(tgi, context=2200, max_tokens=100)) == [2, 1, "It", ""]


async def test_passages_never_make_a_question_too_long(tgi: FakeTGI) -> None:
    model = chat(tgi, context=3000, max_tokens=100)
    turns = [Turn(Role.USER, "q" * 4500)]  # half of the budget, which shrinks twice
    tgi.tokens_of_a_byte = 1.0
    tgi.answers = [web.json_response(TOO_LONG, status=422) for _ in range(2)]
    tgi.answers.append([token("It"), last()])
    assert await streamed(model, turns) == [0, "It", ""]
    assert [passages_in(request) for request in tgi.requests] == [1, 0, 0]
