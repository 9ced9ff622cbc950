"""The browser chat: a Gradio page with a text box, around the elements of `static/`.

The elements use the HTTP API, because Gradio's cost of a token grows with the history. Gradio itself answers
only `/chat`, for its client. The page has no `gr.State`, which would keep a connection open for each tab.

Importing this module imports Gradio, which takes seconds of CPU.
"""

from __future__ import annotations

from collections import OrderedDict

import gradio as gr
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError

from assistant.conversation import Status
from assistant.errors import AssistantError
from assistant.events import Delta, End, Reset
from assistant.replies import Replies
from assistant.web.identity import owner_of_session
from assistant.web.routes.values import Text
from storage.errors import NotFound, StillAnswering, StorageError

NAME = "Tech Assistant"
UI = "/ui"  # where static/ is served; Gradio has a /static of its own
MODULES = (
    "page", "page_chat", "chat", "conversations", "messages", "sources", "engine", "engine_panel", "licence",
    "tree", "menu", "drafts", "files", "send", "translation", "written", "transcript", "selection", "api",
    "markdown", "dialect", "highlight", "dom", "vendor/markdown-it",
)  # fmt: skip
HEAD = "\n".join(
    [
        f'<link rel="icon" type="image/svg+xml" href="{UI}/favicon.svg">',
        *(f'<link rel="stylesheet" href="{UI}/{sheet}.css">' for sheet in ("chat", "page")),
        *(f'<link rel="modulepreload" href="{UI}/{module}.js">' for module in MODULES),
        f'<script type="module" src="{UI}/page.js"></script>',
    ]
)
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
QUEUE_SECONDS = 0.1
MOST_QUEUED = 256  # events; more are refused
MOST_UNREAD = 512  # sessions with unread answers; more than can be queued or running
MOST_SESSIONS = 10_000  # whose conversations are remembered
LONGEST_SESSION = 100  # characters of a session's name that count
QUESTION: TypeAdapter[str] = TypeAdapter(Text)
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def _html(markup: str) -> gr.HTML:
    return gr.HTML(html_template=markup, js_on_load=None, apply_default_css=False)


def build(replies: Replies) -> gr.Blocks:
    """The page. `static/page.css` has its layout."""
    clients = GradioClients(replies)

    async def answer(message: str, request: gr.Request) -> str:
        """Ask a question and get its answer. The questions of a session form one conversation."""
        owner = owner_of_session(request.request, request.session_hash)
        return await clients.answer(owner, request.session_hash or "", message)

    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="tech-page"):
            _html("<tech-conversations></tech-conversations>")
            with gr.Column(elem_id="tech-main"):
                _html("<tech-chat></tech-chat>")
                with gr.Row(elem_id="tech-composer"):
                    gr.Textbox(
                        label="Your question",
                        show_label=False,
                        placeholder="Ask about code",
                        lines=1,
                        max_lines=8,
                        container=False,
                        elem_id="tech-box",
                    )
                    _html("<tech-grounding></tech-grounding><tech-send></tech-send>")
                _html("<tech-hint></tech-hint>")
        gr.api(answer, api_name="chat", concurrency_limit=None)
    blocks.queue(max_size=MOST_QUEUED)
    # Gradio's queue polls a thousand times a second, which takes 6 % of a core. Only its clients use it.
    queue = blocks._queue
    queue.sleep_when_free = queue.progress_update_sleep_when_free = QUEUE_SECONDS
    # Gradio keeps the answers of sessions that never read them, some without any limit.
    bounded = type(queue.pending_messages_per_session)
    queue.pending_messages_per_session = bounded(MOST_UNREAD)
    queue.pending_event_ids_session = bounded(MOST_UNREAD)
    blocks.state_session_capacity = MOST_UNREAD
    return blocks


class GradioClients:
    """Answers the questions of Gradio's client. Each of its sessions has a conversation."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._conversations: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def answer(self, owner: str, session: str, text: str) -> str:
        """The whole answer. Raises `gr.Error`, whose message the client gets."""
        try:
            reply = await self._ask(owner, session[:LONGEST_SESSION], QUESTION.validate_python(text))
            answer = ""
            async for event in await self._replies.follow(owner, reply):
                match event:
                    case Delta(piece, _):
                        answer += piece
                    case Reset(whole, _):
                        answer = whole
                    case End(Status.DONE, _, _, _):
                        return answer
                    case End(status, _, failure, _):
                        message = failure.message if failure else f"The answer was {status} before its end."
                        raise gr.Error(message, print_exception=False)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise gr.Error(f"The question is not valid: {reason}.", print_exception=False) from error
        except (AssistantError, StorageError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        raise gr.Error("The answer has no end.")

    async def _ask(self, owner: str, session: str, text: str) -> str:
        """Ask in the session's conversation, or in a new one if it cannot go on. Returns the reply's id."""
        key = (owner, session)
        if (conversation := self._conversations.get(key)) is not None:
            self._conversations.move_to_end(key)
            try:
                return (await self._replies.ask(owner, conversation, text)).reply_id
            except (NotFound, StillAnswering):  # it was deleted, or the client asks several questions at once
                pass
        stored = await self._replies.ask(owner, None, text)
        self._conversations[key] = stored.conversation_id
        self._conversations.move_to_end(key)
        if len(self._conversations) > MOST_SESSIONS:
            self._conversations.popitem(last=False)
        return stored.reply_id


def page_app(replies: Replies) -> FastAPI:
    """The page as an application. Enter its lifespan before you mount it at `/`."""
    theme = gr.themes.Base(font=FONT, font_mono=MONO)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    return gr.mount_gradio_app(  # type: ignore[no-any-return]
        app,
        build(replies),
        path="",
        theme=theme,
        head=HEAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
    )
