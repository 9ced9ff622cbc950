"""Requests that try to make Gradio open a file or an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

META = {"_type": "gradio.FileData"}
TARGETS = (
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "file:///etc/passwd",
    "http://canary.invalid/x",
    "https://canary.invalid/x",
    "data:text/plain,x",
    "\\\\canary.invalid\\share\\x",
    "//canary.invalid/share/x",
    "../../../../etc/passwd",
    "~/.bashrc",
)
# The routes of Gradio that the application closes. A slash at the end makes no other route.
_CLOSED = """
GET /favicon.ico
POST /gradio_api/api/{api_name}
GET /gradio_api/app_id
POST /gradio_api/call/v2/{api_name}
GET /gradio_api/call/v2/{api_name}/{event_id}
POST /gradio_api/call/{api_name}
GET /gradio_api/call/{api_name}/{event_id}
POST /gradio_api/component_server
GET /gradio_api/custom_component/{id}/{environment}/{type}/{file_name}
GET /gradio_api/deep_link
GET /gradio_api/dev/reload
GET /gradio_api/file/{path:path}
GET HEAD /gradio_api/file={path_or_url:path}
GET /gradio_api/heartbeat/{session_hash}
GET /gradio_api/login_check
GET /gradio_api/openapi.json
POST /gradio_api/process_recording
GET HEAD /gradio_api/proxy={url_path:path}
GET /gradio_api/queue/status
POST /gradio_api/reset
POST /gradio_api/run/{api_name}
GET /gradio_api/runs
GET /gradio_api/startup-events
POST /gradio_api/stream/{event_id}
POST /gradio_api/stream/{event_id}/close
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist-file
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/playlist.m3u8
GET /gradio_api/stream/{session_hash}/{run}/{component_id}/{segment_id}.{ext}
GET /gradio_api/theme.css
GET /gradio_api/token
POST /gradio_api/undo-vibe-edit
POST /gradio_api/upload
GET /gradio_api/upload_progress
GET /gradio_api/user
GET POST /gradio_api/vibe-code
POST /gradio_api/vibe-edit
POST /gradio_api/vibe-starter-queries
POST /login
GET /logout
GET /manifest.json
GET /monitoring
GET /monitoring/summary
GET /monitoring/{key}
GET HEAD /openapi.json
GET /pwa_icon
GET /pwa_icon/{size}
GET /robots.txt
GET /svelte/{path:path}
"""
CLOSED = frozenset(
    (method, path) for *methods, path in map(str.split, _CLOSED.split("\n")[1:-1]) for method in methods
)


def files(targets: Iterable[str]) -> Iterator[dict[str, Any]]:
    """File values that name the targets."""
    for target in targets:
        yield {"path": target, "meta": META}
        yield {"path": target, "url": target, "orig_name": "x", "meta": META, "is_stream": True}


FILES = tuple(files(TARGETS))


def nested(value: Any) -> Iterator[Any]:
    """The value by itself and inside lists and objects."""
    yield value
    yield [value]
    yield [[{"a": [value]}]]
    yield {"value": value, "meta": META}
    for _ in range(60):
        value = {"x": [value]}
    yield value


def registered(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The methods and paths of an application's routes, with those that it mounts or includes."""
    for route in app.routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from registered(included, prefix)
        elif getattr(route, "routes", None) is not None:
            yield from registered(route, prefix + route.path)
        else:
            path = (prefix + route.path).rstrip("/") or "/"
            yield from ((method, path) for method in route.methods)


if __name__ == "__main__":  # in a process of its own, since Gradio leaves an event loop open
    from assistant.web.pages.chat import page_app

    print(*(" ".join(route) for route in registered(page_app(None))), sep="\n")  # type: ignore[arg-type]
