"""TGI's protocol, which the serving layer speaks: `/generate`, `/generate_stream`, `/info` and others.

(Text Generation Inference is Hugging Face's server. Our client of such servers is
`serving/engines/tgi_client.py`.)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Mapping, Sequence

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.engine import (
    Accepted,
    DownloadControl,
    EngineState,
    InvalidRequest,
    NothingToFetch,
    ServingError,
    TopToken,
    Unhealthy,
    WarmableEngine,
)
from serving.generation import Finished, GenerationResult, Token, collect
from serving.models.catalogue import infilling_of, licence_of
from serving.protocols.runner import (
    SHUTTING_DOWN,
    EventStream,
    RequestRunner,
    json_response,
    read_body,
    retry_headers,
    session_of,
)
from serving.protocols.tgi_requests import (
    MOST_TOP_TOKENS,
    TgiRequest,
    read_generate_request,
    read_text_request,
)
from serving.protocols.validation import MOST_BEST_OF, MOST_STOPS

VERSION = "3.3.7"  # the TGI version whose protocol this is; clients read it
_ERROR_TYPES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 413: "validation"}


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int | None
    stop_sequence: str | None  # an addition to TGI: the stop sequence that ended the text


class _StreamEvent(msgspec.Struct):
    index: int
    token: Token
    generated_text: str | None = None
    details: _StreamDetails | None = None
    top_tokens: list[Token] | msgspec.UnsetType = msgspec.UNSET


class _Prefill(msgspec.Struct):
    id: int
    text: str
    logprob: float | None = None  # no engine here reports it


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[_Prefill]
    tokens: list[Token]
    stop_sequence: str | None
    top_tokens: list[list[Token]] | msgspec.UnsetType = msgspec.UNSET
    best_of_sequences: list[_Details] | msgspec.UnsetType = msgspec.UNSET
    """The results that were not the best."""
    generated_text: str | msgspec.UnsetType = msgspec.UNSET  # set only inside `best_of_sequences`


class _Result(msgspec.Struct, omit_defaults=True):
    generated_text: str
    details: _Details | None = None


class TgiProtocol:
    end_of_stream = b""
    keyless_paths: Collection[str] = ("/health",)

    def __init__(self, runner: RequestRunner, download: DownloadControl | None) -> None:
        self._runner = runner
        self._engine = runner.engine
        self._metrics = runner.metrics
        self._download = download

    def routes(self) -> Sequence[Route]:
        return [
            Route("/", self.generate_either_way, methods=["POST"]),
            Route("/generate", self.generate, methods=["POST"]),
            Route("/generate_stream", self.generate_stream, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/info", self.info),
            Route("/health", self.health),
            Route("/ping", self.health),
            Route("/metrics", self.metrics),
            Route("/prefix", self.prefix, methods=["PUT"]),
            Route("/download", self.download, methods=["POST", "DELETE"]),
        ]

    async def generate_either_way(self, request: Request) -> ASGIApp:
        """The body says whether the answer is a stream."""
        parsed = await self._read(request)
        if parsed.stream:
            return self._stream(parsed)
        return json_response([await self._result(parsed, request)])

    async def generate(self, request: Request) -> ASGIApp:
        return json_response(await self._result(await self._read(request, stream=False), request))

    async def generate_stream(self, request: Request) -> ASGIApp:
        return self._stream(await self._read(request, stream=True))

    async def tokenize(self, request: Request) -> Response:
        spans = await self._engine.tokenize(read_text_request(await read_body(request)))
        if spans is None:
            raise HTTPException(404, "This engine does not report its tokens.")
        return json_response(spans)

    async def info(self, request: Request) -> Response:
        info = self._engine.info
        limit = self._runner.admission.limit
        return json_response(
            {
                "model_id": info.model_id,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": limit,
                "max_best_of": MOST_BEST_OF,
                "max_stop_sequences": MOST_STOPS,
                "max_top_n_tokens": MOST_TOP_TOKENS,
                "max_input_tokens": None if info.context is None else info.context - 1,
                "max_total_tokens": info.context,
                "max_client_batch_size": 1,
                "max_batch_size": info.parallel,
                "validation_workers": 1,
                "router": "tech-assistant",
                "version": VERSION,
                # Additions to the protocol:
                "engine": info.engine,
                "state": info.state,
                "state_detail": info.state_detail,
                "parameters": info.parameters,
                "max_queue_size": None if info.parallel is None else max(0, limit - info.parallel),
                "chat_template": info.chat_template,
                "bos_token": info.bos_token,
                "eos_token": info.eos_token,
                "adapters": info.adapters,
                "license": info.licence or licence_of(info.model_id),
                "infilling": info.infilling or infilling_of(info.model_id),
                "download": info.download,
            }
        )

    async def health(self, request: Request) -> Response:
        info = self._engine.info
        if info.state is not EngineState.READY:
            raise Unhealthy(info.state_detail or "The model is not ready.")
        if self._runner.admission.closed:
            raise Unhealthy(SHUTTING_DOWN)
        return Response()

    async def metrics(self, request: Request) -> Response:
        info = self._engine.info
        return PlainTextResponse(
            self._metrics.text(
                queued=info.waiting,
                running=max(0, self._runner.generations - info.waiting),
                computed=info.computed_tokens,
                reused=info.reused_tokens,
            )
        )

    async def prefix(self, request: Request) -> Response:
        """Accept a text that many prompts will begin with. 202: the engine keeps it ready; 204: it cannot."""
        beginning = read_text_request(await read_body(request))
        if not isinstance(self._engine, WarmableEngine):
            return Response(status_code=204)
        await self._engine.warm(beginning)
        return Response(status_code=202)

    async def download(self, request: Request) -> Response:
        """Start or resume the download of the model (POST), or decline it (DELETE)."""
        try:
            if self._download is None:
                raise NothingToFetch("The model of this engine is not fetched from here.")
            if request.method == "POST":
                await self._download.begin()
                return Response(status_code=202)
            await self._download.decline()
            return Response(status_code=204)
        except NothingToFetch as error:
            return self.serving_error(error)

    def serving_error(self, error: ServingError) -> Response:
        return json_response(self.error_event(error, error.error_type), error.status, retry_headers(error))

    def http_error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        error_type = _ERROR_TYPES.get(status, "internal")
        return json_response({"error": message, "error_type": error_type}, status, headers)

    def error_event(self, error: ServingError, error_type: str) -> object:
        prefix = "Input validation error: " if isinstance(error, InvalidRequest) else ""
        return {"error": f"{prefix}{error}", "error_type": error_type}

    async def _read(self, request: Request, *, stream: bool | None = None) -> TgiRequest:
        self._metrics.requests += 1
        body = await read_body(request)
        return read_generate_request(body, stream=stream, session=session_of(request))

    async def _result(self, parsed: TgiRequest, request: Request) -> _Result:
        generation = parsed.generation
        if parsed.best_of > 1:
            results = await self._runner.best_of(generation, parsed.best_of, request.receive)
        else:
            work = collect(self._runner.events(generation), seed=generation.params.seed)
            results = [await self._runner.admission.run(work, request.receive)]
        best = _full_text(parsed, results[0])
        if not parsed.details:
            return _Result(best)
        details = _details(parsed, results[0])
        if parsed.prefill:
            spans = await self._engine.tokenize(parsed.prompt)
            read = (spans or ())[-(generation.params.truncate or 0) :]
            details.prefill = [_Prefill(span.id, span.text) for span in read]
        if parsed.best_of > 1:
            details.best_of_sequences = [_details(parsed, result) for result in results[1:]]
            for sequence, result in zip(details.best_of_sequences, results[1:], strict=True):
                sequence.generated_text = _full_text(parsed, result)
        return _Result(best, details)

    def _stream(self, parsed: TgiRequest) -> ASGIApp:
        return self._runner.stream(functools.partial(self._write, parsed), self)

    async def _write(self, parsed: TgiRequest, stream: EventStream) -> None:
        texts: list[str] = [parsed.prompt] if parsed.return_full_text else []
        index = 0
        async with contextlib.aclosing(self._runner.events(parsed.generation)) as events:
            async for event in events:
                if isinstance(event, Accepted):
                    await stream.begin()
                    continue
                index += 1
                texts.append(event.token.text)
                out = _StreamEvent(index, event.token)
                if event.top:
                    out.top_tokens = _top(event.top)
                if isinstance(event, Finished):
                    out.generated_text = "".join(texts)
                    out.details = _StreamDetails(
                        event.finish_reason,
                        event.generated_tokens,
                        _seed(parsed, parsed.generation.params.seed),
                        event.input_tokens,
                        event.stop,
                    )
                await stream.write_event(out)


def _full_text(parsed: TgiRequest, result: GenerationResult) -> str:
    return parsed.prompt + result.text if parsed.return_full_text else result.text


def _seed(parsed: TgiRequest, seed: int) -> int | None:
    """None at temperature 0: the seed then has no influence."""
    return seed if parsed.generation.params.temperature > 0 else None


def _details(parsed: TgiRequest, result: GenerationResult) -> _Details:
    details = _Details(
        result.end.finish_reason,
        result.end.generated_tokens,
        _seed(parsed, result.seed),
        [],
        [delta.token for delta in result.deltas],
        result.end.stop,
    )
    if any(delta.top for delta in result.deltas):
        details.top_tokens = [_top(delta.top) for delta in result.deltas]
    return details


def _top(tokens: Sequence[TopToken]) -> list[Token]:
    return [Token(token.id, token.text, token.logprob, False) for token in tokens]
