"""The checks of which software and models a server has, and what it does with requests for texts, chats and
bad requests.

Each finding reports one observation: the next request may show something else.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from serving.doctor.client import (
    PROMPT,
    TOKENS,
    Client,
    OpenAIProtocol,
    TgiProtocol,
    error_of,
    get,
    get_count,
    get_list,
    get_text,
    quote,
)
from serving.doctor.report import CannotExamine, Finding, NoText, made_up, right, unknown, wrong
from serving.engines.openai_client import OpenAIUpstream
from serving.engines.remote import DEFAULT_CONTEXT, INVALID_STATUSES, ask, message
from serving.engines.tgi_client import is_tgi, says_openai
from serving.models.catalogue import infilling_of

MULTIBYTE_PROMPT = "\N{OWL}\N{FOX FACE}" * 12
LONG_ANSWER = 1024  # tokens: an answer that is still running when the connection is closed
LONGEST_PROMPT = 300_000  # words: we do not try longer contexts
FAST_SECONDS = 0.25  # an answer that is complete by then says nothing about how it was sent
SETTLE_SECONDS = 5.0  # within which a server must notice a closed connection

_STOPS = "We send no stop sequences: we look for them ourselves, byte by byte, and then close the connection."
_DIALOGUE = "We write a chat as a plain dialogue and send it as text."
_EXACT = "the text ends before it"


async def reachable(client: Client) -> Finding:
    if client.key and urlsplit(client.url).password:
        raise CannotExamine(
            "The address contains a password, and there is a key. Only one of them can be sent."
        )
    begun = client.clock()
    try:
        if client.kind is None:
            has_tgi_info = not says_openai(client.url) and is_tgi((await client.get("info"))[1])
            client.kind = "tgi" if has_tgi_info else "openai"
        if client.kind == "tgi":
            client.protocol = TgiProtocol(client.root)
            url = f"{client.root}/info"
        else:
            client.protocol = OpenAIProtocol(OpenAIUpstream.base_url(client.url))
            url = f"{client.protocol.url}/models"
        status, listed = await ask(client.http, url, seconds=None)
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        raise CannotExamine(f"Nobody answers ({type(error).__name__}).") from error
    path = urlsplit(url).path
    if status in (401, 403):
        raise CannotExamine(f"{path} answers {status}: the key is missing or wrong (see --key-env).")
    if status == 503:
        raise CannotExamine(f"{path} answers 503: the server is still loading, or overloaded.")
    if status == 200 and isinstance(listed, dict):
        client.listed = listed
        return right(f"{path} answers after {1000 * (client.clock() - begun):.0f} ms.")
    problem = "something that is not JSON" if status == 200 else str(status)
    if client.model is None:
        raise CannotExamine(
            f"{path} answers {problem}: is this the base address? If the server lists no models, name one "
            "with --upstream-model."
        )
    client.listed = {}
    return made_up(f"{path} answers {problem}.", f"The model is {client.model}, named by --upstream-model.")


async def software(client: Client) -> Finding:
    owners = {get_text(model, "owned_by") for model in _models(client.listed)}
    version, paths, key = "", ["api/version"], "version"
    if "tech-assistant" in (*owners, client.listed.get("router")):
        client.software, paths = "tech-assistant", []
    elif client.protocol.kind == "tgi":
        client.software, paths, version = "TGI", [], get_text(client.listed, "version")
    elif "llamacpp" in owners:
        client.software, paths, key = "llama.cpp", ["props"], "build_info"
    elif "vllm" in owners:
        client.software, paths = "vLLM", ["version"]
    elif "sglang" in owners:
        client.software, paths = "SGLang", ["server_info", "get_server_info"]
    for path in paths:
        version = version or get_text((await client.get(path))[1], key)
    if version and not client.software:  # only Ollama answers at this path
        client.software = "Ollama"
    if client.software:
        return right(f"{client.software} {version}".strip())
    return unknown(
        "The server does not say which software it is.",
        "We send only what OpenAI's protocol has, and refuse requests with other parameters.",
    )


async def models(client: Client) -> Finding:
    if client.protocol.kind == "tgi":
        name, client.context = client.listed.get("model_id"), get_count(client.listed, "max_total_tokens")
        names = [str(name)] if name else []
    else:
        listed = _models(client.listed)
        names = [str(model["id"]) for model in listed]
        chosen = next((model for model in listed if client.model in (None, model["id"])), {})
        name, meta = client.model or chosen.get("id"), chosen.get("meta")
        reported = (
            get_count(chosen, "max_model_len"),
            get_count(meta, "n_ctx"),
            get_count(meta, "n_ctx_train"),
        )
        client.context = next(filter(None, reported), None)
    if not name:
        raise CannotExamine("The server lists no model. Name one with --upstream-model.")
    client.model = client.protocol.model = str(name)
    if names and client.model not in names:
        raise CannotExamine(f"The server has no model {quote(client.model)}. It has {', '.join(names[:5])}.")
    if not names and client.listed:
        return unknown(f"The server lists none. We ask for {client.model}.")
    if len(names) < 2:
        return right(f"{client.model}.")
    return right(f"{client.model}, and {len(names) - 1} more.", "Without --upstream-model we use the first.")


def _models(listed: Any) -> list[dict[str, Any]]:
    return [model for model in get_list(listed, "data") if isinstance(model, dict) and model.get("id")]


async def text(client: Client) -> Finding:
    answer = client.sample = await client.generate()
    if not answer.is_text:
        return wrong(
            f"The server does not continue a text: {error_of(answer)}",
            "It cannot answer plain-text prompts, which the application sends. It may answer chats.",
        )
    if answer.text:
        return right(f"The server continues a text, in {len(answer.pieces)} pieces.")
    if answer.finish_reason:
        return unknown("The answer is an event stream without any text.")
    return unknown("The answer contains no event that our engine could read.")


async def stop_sequences(client: Client) -> Finding:
    text, chosen = client.sample.text, straddling(client.sample.pieces)
    if chosen is None:
        return unknown("The answer has too few pieces to take a stop sequence from.", _STOPS)
    stop, at = chosen
    verdicts: list[str] = []
    for stream in (True, False):
        answer = await client.generate(stream=stream, stop=stop)
        if not answer.is_text:
            verdicts.append(f"refused: {error_of(answer)}")
        elif verdict := effect_of_stop(answer.text, answer.finish_reason, text, at, stop):
            verdicts.append(verdict)
        else:
            return unknown("The same prompt gave another text at temperature 0.", _STOPS)
    tried = f"{quote(stop)}, which straddles two tokens"
    streamed, whole = verdicts
    if not streamed == whole == _EXACT:
        result = streamed if streamed == whole else f"streamed, {streamed}; whole, {whole}"
        return made_up(f"With {tried}: {result}.", _STOPS)
    # Some servers hold back text that may begin a stop sequence, and lose it at the length limit.
    answer = await client.generate(stop=text[-2:] + "\N{SECTION SIGN}" * 2)
    if answer.is_text and text.startswith(answer.text) and len(answer.text) < len(text):
        return made_up(
            f"The text ends before {tried}. But at the length limit the server drops text that could "
            "have become a stop sequence.",
            _STOPS,
        )
    return right(f"The text ends before {tried}, streamed or whole.", _STOPS)


async def end_of_text(client: Client) -> Finding:
    answer = await client.text(tokens=4)
    known = client.protocol.finish_reasons
    if answer.finish_reason not in known:
        reason = "no reason" if answer.finish_reason is None else f"the reason {quote(answer.finish_reason)}"
        return wrong(
            f"The server gives {reason} for the end of a text. We know {', '.join(known)}.",
            "We treat such an answer as broken off.",
        )
    if (answer.generated_tokens or 0) > 4:
        return wrong(
            f"The server generated {answer.generated_tokens} tokens where we asked for 4.",
            "We cut an answer after four pieces for each token.",
        )
    if answer.finish_reason != "length":
        return unknown(f"The text ended by itself within 4 tokens ({answer.finish_reason}).")
    observation = "The server keeps the length limit and reports it as the reason for the end."
    if client.protocol.kind == "tgi":
        return right(observation)
    return made_up(
        observation,
        "OpenAI's protocol says `stop` both at the end of a text and at a stop sequence. We send no stop "
        "sequences, so `stop` always means the end of the text.",
    )


async def temperature_zero(client: Client) -> Finding:
    answer, text = await client.text(), client.sample.text
    if not text:
        raise NoText("The answer contains no text.")
    if answer.text == text:
        return right("The same prompt gave the same answer twice.")
    pairs = enumerate(zip(answer.text, text, strict=False))
    at = next((position for position, (one, other) in pairs if one != other), "all")
    return wrong(
        f"The same prompt gave two different answers; their first {at} characters are the same.",
        "We cannot change this: a server that computes several answers at once may round differently each "
        "time.",
    )


async def seed(client: Client) -> Finding:
    answers = [await client.text(stream=False, seed=seed) for seed in (7, 7, 8, 9)]
    first, again, *others = [answer.text for answer in answers]
    if first != again:
        return wrong(
            "The same seed gave two different answers.",
            "We send the seed, but it does not reproduce an answer.",
        )
    if all(other == first for other in others):
        return unknown("All seeds give the same answer.")
    return right("The same seed gives the same answer, and other seeds give other answers.")


async def token_counts(client: Client) -> Finding:
    streamed, whole = client.sample, await client.generate(stream=False)
    if not streamed.is_text:
        raise NoText(f"Refused: {error_of(streamed)}")
    given, generated = streamed.input_tokens, streamed.generated_tokens
    if generated is None:
        return made_up(
            "No answer reports the number of generated tokens."
            if whole.generated_tokens is None
            else "A stream reports no token counts; a whole answer does.",
            "We count the pieces instead. The length of the prompt stays unknown.",
        )
    problems = []
    if not 0 < generated <= TOKENS:
        problems.append(f"{generated} tokens where at most {TOKENS} were asked for")
    if given == 0:
        problems.append("a prompt of 0 tokens")
    if streamed.total_tokens not in (None, (given or 0) + generated):
        problems.append(f"{given} and {generated} tokens, {streamed.total_tokens} in total")
    is_same_text = whole.is_text and whole.text == streamed.text
    if is_same_text and whole.generated_tokens not in (None, generated):
        problems.append(f"{generated} tokens streamed, {whole.generated_tokens} whole, for the same text")
    if problems:
        return wrong(f"The server reports {'; '.join(problems)}.", "We pass the counts on unchanged.")
    return right(f"Prompt {'unknown' if given is None else given}, answer {generated}, and they agree.")


async def chat(client: Client) -> Finding:
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say yes."}]
    if client.protocol.kind == "tgi":
        status, content = await client.post("chat_tokenize", {"messages": messages})
        is_pair = isinstance(content, list) and len(content) == 2
        if status == 200 and isinstance(content[1] if is_pair else get(content, "templated_text"), str):
            return right("The server has a chat template and applies it to a chat.")
        return made_up(f"/chat_tokenize answers {status}.", _DIALOGUE)
    body = {"model": client.model, "messages": messages, "max_tokens": TOKENS, "temperature": 0}
    answer = await client.send(f"{client.protocol.url}/chat/completions", body)
    if not answer.is_text:
        return made_up(
            f"The server takes no chat: {error_of(answer)}",
            "The application writes the dialogue itself. Other clients get the server's error.",
        )
    if answer.role not in (None, "assistant"):
        return wrong(f"The answer has the role {quote(answer.role)}.")
    if client.software == "llama.cpp" and await client.has_foreign_template():
        return made_up(
            "The server's chat template uses special tokens that the model does not have.", _DIALOGUE
        )
    if not answer.text:
        return unknown("The server takes a chat, but answers without text.")
    if answer.finish_reason not in client.protocol.finish_reasons:
        return wrong(
            f"A chat ends for the reason {answer.finish_reason}.", "We treat such an answer as broken off."
        )
    end = ", and the answer ends by itself" if answer.finish_reason == "stop" else ""
    return right(f"The server answers a chat with a system message{end}.")


async def fill_in_the_middle(client: Client) -> Finding:
    if (markers := infilling_of(client.model)) is not None:
        texts = (markers.prefix, markers.suffix, markers.middle)
        counts = {marker: await client.token_count(marker) for marker in texts}
        if split := [marker for marker, count in counts.items() if count not in (None, 1)]:
            return wrong(
                f"By its name {client.model} should have the markers {' '.join(split)}, but its vocabulary "
                "lacks them.",
                "Give the model a name that does not promise them.",
            )
        remedy = "We put them into the prompt. We do not use the server's own `suffix`."
        known = "We know the model's markers by its name"
        if all(counts.values()):
            return right(f"{known}, and each is one token.", remedy)
        return made_up(f"{known}. The server has no /tokenize to show whether each is one token.", remedy)
    no_markers = f"We know no markers for {client.model}"
    if client.protocol.kind == "tgi":
        return made_up(f"{no_markers}.", "We refuse requests with a suffix.")
    plain = await client.generate(tokens=1, stream=False)
    filled = await client.generate(tokens=1, stream=False, suffix="\n    return a\n" * 16)
    if not filled.is_text:
        return made_up(
            f"{no_markers}, and the server refuses `suffix`: {error_of(filled)}",
            "We refuse requests with a suffix, with the server's error message.",
        )
    if plain.input_tokens is None or filled.input_tokens is None:
        return unknown("The server takes `suffix`. Without token counts we cannot tell whether it reads it.")
    if filled.input_tokens > plain.input_tokens:
        return right("The server reads `suffix`.", "We pass it on.")
    observation = f"{no_markers}, and the server ignores `suffix` without an error."
    if client.software == "llama.cpp":
        return made_up(observation, "We refuse requests with a suffix.")
    return wrong(observation, "Do not send it requests with a suffix.")


async def streaming(client: Client) -> Finding:
    answer = await client.text(tokens=4 * TOKENS)
    if not answer.reads:
        raise NoText("The answer contains no text.")
    first, last = answer.reads[0], answer.reads[-1]
    took, count = last - answer.asked_at, len(answer.pieces)
    if count < 3:
        return unknown(f"The answer has only {count} pieces.")
    if len(answer.reads) > 1 and last - first >= 0.2 * took:
        return right(f"{count} pieces came in {len(answer.reads)} reads, as they were generated.")
    if took < FAST_SECONDS:
        return unknown(f"The whole answer was there after {1000 * took:.0f} ms: too fast to tell.")
    return wrong(
        f"All {count} pieces came at once, after {took:.1f} s: something on the way collects them.",
        "We ask without compression. Configure the proxy on the way not to buffer (nginx: "
        "`proxy_buffering off`), or connect past it.",
    )


async def keep_alive(client: Client) -> Finding:
    reused = 0

    async def count(*_: object) -> None:
        nonlocal reused
        reused += 1

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(count)
    usual = client.http
    client.http = aiohttp.ClientSession(headers=usual.headers, trace_configs=[trace])
    try:
        for _ in range(2):
            await client.get("health")
        for _ in range(3):
            await client.generate(tokens=2)
    except (aiohttp.ClientError, OSError):
        observation = "After a streamed answer the server closes the connection without announcing it."
    else:
        if reused:
            return right("A connection serves more than one request.")
        observation = "The server closes the connection after each answer."
    finally:
        await client.http.close()
        client.http = usual
    return made_up(observation, "We use no connection twice.")


async def characters(client: Client) -> Finding:
    answer = await client.text(MULTIBYTE_PROMPT)
    if any("\ud800" <= c <= "\udfff" for c in answer.text):
        return made_up(
            "Characters that consist of several tokens come in halves.",
            "We join the halves before we pass them on.",
        )
    if "\ufffd" in answer.text:
        whole = await client.generate(MULTIBYTE_PROMPT, stream=False)
        if whole.is_text and whole.text.count("\ufffd") < answer.text.count("\ufffd"):
            return wrong("In a stream U+FFFD replaces characters of several tokens.", "They are lost.")
        return unknown("The model itself generates invalid UTF-8.")
    if answer.text.isascii():
        return unknown("The model generated no character of several bytes.")
    return right("Characters of several bytes arrive whole.")


async def errors(client: Client) -> Finding:
    answer = await client.generate({"no": 1}, tokens=1, stream=False)
    if answer.is_text:
        return unknown("The server answers even a prompt that is not a text.")
    if message(answer.body):
        return right(f"The server sends a status and a message in JSON: {error_of(answer)}")
    return made_up(
        f"The server answers {answer.status} without a message in JSON: "
        f"{quote(answer.body.decode('utf-8', 'replace'))}",
        "We report the status, and do not show such a body to anybody.",
    )


async def context(client: Client) -> Finding:
    reported = client.context
    words = 2 * (reported or DEFAULT_CONTEXT)
    if reported:
        known, remedy = f"The server reports a context of {reported:,} tokens", ""
    else:
        known = "The server does not report the length of its context"
        remedy = f"We assume {DEFAULT_CONTEXT:,} tokens."
    if words > LONGEST_PROMPT:
        return unknown(f"{known}, more than we try here.")
    answer = await client.generate(" the" * words, tokens=1, stream=False)
    if answer.is_text:
        if answer.input_tokens is not None and answer.input_tokens < words * 3 // 4:
            return wrong(
                f"{known}, and cuts a longer prompt to {answer.input_tokens:,} without an error.",
                "Answers to long chats miss what was cut.",
            )
        return (made_up if remedy else unknown)(f"{known}; it took {words:,}.", remedy)
    error = error_of(answer)
    if answer.status not in INVALID_STATUSES or not message(answer.body):
        return wrong(
            f"{known}; it refuses a longer prompt without a clear error: {error}",
            "We report a failure of the engine, not a prompt that is too long.",
        )
    numbers = re.findall(r"\d[\d,]*", answer.refusal)
    limits = {int(number.replace(",", "")) for number in numbers if len(number) < 20}
    if reported and limits and not {reported, reported - 1} & limits:  # some keep one token for the answer
        return unknown(
            f"{known}; the error for a longer prompt has other numbers: {error}",
            "We believe the list of models.",
        )
    return (made_up if remedy else right)(f"{known}, and refuses a longer prompt: {error}", remedy)


async def cancel(client: Client) -> Finding:
    """Whether the server stops computing when the connection is closed."""
    remedy = "We end an answer by closing the connection, at a stop sequence too."
    tokens = min(LONG_ANSWER, (client.context or DEFAULT_CONTEXT) // 2)
    path, body = client.protocol.encode(PROMPT, tokens=tokens, stream=True)
    before = during = await client.running_answers()
    seconds_alone = 0.0 if before is not None else await _seconds_of_one_token(client)
    async with client.http.post(path, json=body) as response:
        if response.status != 200:
            return unknown(f"The server refuses an answer of {tokens:,} tokens: {response.status}.", remedy)
        await response.content.readany()
        if before is not None:
            during = await client.running_answers()
        response.close()
    if before is None:
        seconds = await _seconds_of_one_token(client)
        if seconds > 3 * seconds_alone + 2:
            return wrong(
                f"After we closed a connection, a short answer took {seconds:.1f} s instead of "
                f"{seconds_alone:.1f} s.",
                "A cancelled answer delays the others until it ends.",
            )
        return unknown("The server has no /metrics or /slots that report what it computes.", remedy)
    if during is None or during <= before:
        return unknown("The answer was complete before we could look: too fast.", remedy)
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        await _seconds_of_one_token(client)  # some servers update their counts only while they compute
        now = await client.running_answers()
        if now is not None and now <= before:
            return right("The server stops computing when the connection is closed.", remedy)
        await asyncio.sleep(0.2)
    return wrong(
        f"{SETTLE_SECONDS:g} s after the connection was closed the server still computes.",
        "An answer that is cancelled, or ended by a stop sequence, delays the others until its length limit.",
    )


async def _seconds_of_one_token(client: Client) -> float:
    begun = client.clock()
    await client.generate(tokens=1, stream=False)
    return client.clock() - begun


def straddling(pieces: Sequence[str]) -> tuple[str, int] | None:
    """A string that begins inside one piece and ends inside the next, and its position in the text. The text
    before does not contain it."""
    text, at = "".join(pieces), 0
    found: tuple[str, int] | None = None
    for number, piece in enumerate(pieces[:-1]):
        at += len(piece)
        following = pieces[number + 1]
        # A piece of one character has no inside: the string then contains all of it.
        start, end = at - max(1, len(piece) // 2), at + max(1, len(following) // 2)
        stop = text[start:end]
        if number and text.find(stop) == start and stop.strip():
            if len(piece) > 1 and len(following) > 1:
                return stop, start
            found = found or (stop, start)
    return found


def effect_of_stop(text: str, reason: str | None, free: str, at: int, stop: str) -> str | None:
    """What the server did with a stop sequence that is at `at` in the `free` text, which was generated
    without it. None if `text` differs for another reason."""
    before = free[:at]
    if text == before:
        if reason in ("stop", "stop_sequence"):
            return _EXACT
        return f"{_EXACT}, but the server reports the reason {reason}"
    if text == before + stop:
        return "the text ends with it"
    if free.startswith(text) and len(text) > at + len(stop):
        return "the text goes on after it" if len(text) < len(free) else "the server ignores it"
    if free.startswith(text):
        return "a part of it remains in the text" if len(text) > at else "text before it is lost"
    return None


CHECKS: Sequence[tuple[str, Callable[[Client], Awaitable[Finding]]]] = (
    ("reachable", reachable),
    ("software", software),
    ("models", models),
    ("text", text),
    ("stop sequences", stop_sequences),
    ("end of the text", end_of_text),
    ("temperature 0", temperature_zero),
    ("seed", seed),
    ("token counts", token_counts),
    ("chat", chat),
    ("fill in the middle", fill_in_the_middle),
    ("streaming", streaming),
    ("keep-alive", keep_alive),
    ("characters", characters),
    ("errors", errors),
    ("context", context),
    ("cancel", cancel),
)
