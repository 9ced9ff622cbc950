"""The files of `static/`, sent compressed to browsers that accept it.

Only files are compressed here, which are the same for everybody. The API's answers are not: the length of a
compressed answer could tell another site what is in it.
"""

from __future__ import annotations

import functools
import gzip
import re
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from assistant.web.security import FRAME_POLICY, RESOURCE_POLICY

STATIC = Path(__file__).parent / "static"
TEXT = re.compile(r"text/.*|application/(?:javascript|json|wasm)|image/svg\+xml")
COMMENT_LINES = re.compile(rb"^[ \t]*(?://.*|/\*[^*]*(?:\*(?!/)[^*]*)*\*/)$", re.MULTILINE)
LEAST_BYTES = 500  # of a file worth compressing
MOST_COMPRESSED = 256  # files whose compressed form is remembered
# The page of the frame that draws diagrams, and its scripts, which a frame of another origin may load.
FRAME = {
    "diagram.html": {"Content-Security-Policy": FRAME_POLICY},
    "diagram.js": {RESOURCE_POLICY: "cross-origin"},
    "vendor/mermaid.js": {RESOURCE_POLICY: "cross-origin"},
}
WEIGHT = re.compile(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


class Static(StaticFiles):
    """Static files that a browser revalidates each time, so that modules of two releases never mix."""

    def __init__(self, directory: Path = STATIC) -> None:
        super().__init__(directory=directory)
        self._sent = functools.lru_cache(MOST_COMPRESSED)(_sent)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        request = Headers(scope=scope)
        # A range of a file is sent as it is: its bytes are counted in the file.
        if isinstance(response, FileResponse) and accepts_gzip(request) and "range" not in request:
            response = await self._compressed(response, request, is_head=scope["method"] == "HEAD")
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Vary"] = "Accept-Encoding"
        response.headers.update(FRAME.get(Path(path).as_posix(), {}))
        return response

    async def _compressed(self, plain: FileResponse, request: Headers, *, is_head: bool) -> Response:
        """The same file compressed, or `plain` if that would not make it smaller."""
        stat = plain.stat_result
        if stat is None or stat.st_size < LEAST_BYTES or not TEXT.match(plain.media_type or ""):
            return plain
        data = await anyio.to_thread.run_sync(self._sent, str(plain.path), stat.st_mtime_ns, stat.st_size)
        if len(data) >= stat.st_size:
            return plain
        headers = {
            "Content-Type": plain.headers["content-type"],
            "Content-Encoding": "gzip",
            "Content-Length": str(len(data)),
            "Last-Modified": plain.headers["last-modified"],
            "ETag": f'{plain.headers["etag"][:-1]}-gzip"',  # the bytes of the two forms differ
        }
        compressed = Response(b"" if is_head else data, headers=headers)
        if self.is_not_modified(compressed.headers, request):
            return NotModifiedResponse(compressed.headers)
        return compressed


def accepts_gzip(request: Headers) -> bool:
    """Whether a client accepts gzip, and likes it no less than the plain form."""
    weights: dict[str, float] = {}
    for coding in ",".join(request.getlist("accept-encoding")).lower().split(","):
        name, has_weight, weight = coding.partition(";")
        match = WEIGHT.fullmatch(weight)
        weights[name.strip()] = float(match[1]) if match else 0.0 if has_weight else 1.0
    gzip_weight = weights.get("gzip", weights.get("*", 0.0))
    return gzip_weight > 0 and gzip_weight >= weights.get("identity", 0.0)


def gzipped(data: bytes) -> bytes:
    """The smallest form of `data`, for what is compressed once and sent often."""
    return gzip.compress(data, 9, mtime=0)


def without_comments(source: bytes) -> bytes:
    """JavaScript or CSS in which each line that is only a comment is empty. Errors name the same lines."""
    return COMMENT_LINES.sub(lambda match: b"\n" * match[0].count(b"\n"), source)


def sent(path: Path) -> bytes:
    """What a browser is sent of a file, if it accepts compression. Only our own code loses its comments."""
    data = path.read_bytes()
    is_ours = path.parent == STATIC and path.suffix in (".js", ".css")
    return gzipped(without_comments(data) if is_ours else data)


def _sent(path: str, modified: int, size: int) -> bytes:
    """The file's time and size make a changed file another one for the cache."""
    return sent(Path(path))
