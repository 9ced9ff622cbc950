"""The first checks: whether the server answers, what software it is, and which models it has."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import aiohttp

from serving.doctor.client import Client, quote
from serving.doctor.protocols import OpenAIProtocol, TgiProtocol, get_count, get_list, get_text
from serving.doctor.report import CannotExamine, Finding, made_up, right, unknown
from serving.engines.openai_client import OpenAIUpstream
from serving.engines.remote import ask
from serving.engines.tgi_client import is_tgi, says_openai


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
    client.software, version = await _recognise(client)
    if client.software:
        return right(f"{client.software} {version}".strip())
    return unknown(
        "The server does not say which software it is.",
        "We send only what OpenAI's protocol has, and refuse requests with other parameters.",
    )


async def _recognise(client: Client) -> tuple[str, str]:
    """The software and its version; both may be empty."""
    if client.protocol.kind == "tgi":
        if client.listed.get("router") == "tech-assistant":
            return "tech-assistant", ""
        return "TGI", get_text(client.listed, "version")
    owners = {get_text(model, "owned_by") for model in _models(client.listed)}
    if "tech-assistant" in owners:
        return "tech-assistant", ""
    for owner, name, paths, key in (
        ("llamacpp", "llama.cpp", ("props",), "build_info"),
        ("vllm", "vLLM", ("version",), "version"),
        ("sglang", "SGLang", ("server_info", "get_server_info"), "version"),
    ):
        if owner in owners:
            return name, await _version(client, paths, key)
    version = await _version(client, ("api/version",), "version")
    return ("Ollama", version) if version else ("", "")


async def _version(client: Client, paths: tuple[str, ...], key: str) -> str:
    for path in paths:
        if version := get_text((await client.get(path))[1], key):
            return version
    return ""


async def models(client: Client) -> Finding:
    if client.protocol.kind == "tgi":
        name, client.context = client.listed.get("model_id"), get_count(client.listed, "max_total_tokens")
        names = [str(name)] if name else []
    else:
        listed = _models(client.listed)
        names = [str(model["id"]) for model in listed]
        chosen = next((model for model in listed if client.model in (None, model["id"])), {})
        name, client.context = client.model or chosen.get("id"), _context(chosen)
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


def _context(model: dict[str, Any]) -> int | None:
    meta = model.get("meta")
    return get_count(model, "max_model_len") or get_count(meta, "n_ctx") or get_count(meta, "n_ctx_train")
