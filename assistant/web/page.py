"""The browser chat: Gradio's composer and page around the elements of `static/`.

Knows how a question goes from Gradio to the assistant. Refuses to know the transcript: the answer is not
streamed through Gradio, whose cost grows with the history for each token; `<tech-chat>` reads the event
stream of the API itself. No `gr.State` either: it would keep a connection open for each tab.

Importing this module imports Gradio, which takes seconds of CPU.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
from fastapi import FastAPI

from assistant.errors import AssistantError
from assistant.reply import Assistant
from assistant.web.identity import owner_of
from assistant.web.problems import problem_of
from storage.errors import StorageError

NAME = "Tech Assistant"
UI = "/ui"  # where static/ is served; Gradio has a /static of its own
MODULES = (
    "page", "chat", "conversations", "messages", "tree", "menu", "drafts",
    "selection", "api", "markdown", "highlight", "dom",
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
QUEUE_SECONDS = 0.5
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]

# page.js may not have run yet when a component is mounted, but has long before anything is asked.
ON_TOLD = "watch('value', () => window.techPage.told(props.value))"
ON_SEND = "element.addEventListener('tech-submit', () => trigger('submit'))"
ASKING = "(text) => window.techPage.asking(text)"
FAILED = "() => window.techPage.failed()"


def build(assistant: Assistant) -> gr.Blocks:
    """The page. What it looks like is in `static/page.css`."""

    async def submit(text: str, asking: dict[str, Any], request: gr.Request) -> dict[str, Any]:
        return await ask(assistant, owner_of(request.request), text, asking)

    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="tech-page"):
            gr.HTML(
                html_template="<tech-conversations></tech-conversations>",
                js_on_load=None,
                apply_default_css=False,
            )
            with gr.Column(elem_id="tech-main"):
                chat = gr.HTML(
                    html_template="<tech-chat></tech-chat>", js_on_load=ON_TOLD, apply_default_css=False
                )
                with gr.Row(elem_id="tech-composer"):
                    box = gr.Textbox(
                        label="Your question",
                        show_label=False,
                        placeholder="Ask about code",
                        lines=1,
                        max_lines=8,
                        container=False,
                        elem_id="tech-box",
                    )
                    send = gr.HTML(
                        html_template="<tech-send></tech-send>", js_on_load=ON_SEND, apply_default_css=False
                    )
                gr.HTML(html_template="<tech-hint></tech-hint>", js_on_load=None, apply_default_css=False)
        asked = gr.on(
            [box.submit, send.submit],
            submit,
            inputs=[box, chat],
            outputs=[chat],
            js=ASKING,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        asked.failure(None, js=FAILED)
    # Nothing here goes through Gradio's queue, which looks for work a thousand times a second: 6 % of a core.
    blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = QUEUE_SECONDS
    return blocks


async def ask(assistant: Assistant, owner: str, text: str, asking: dict[str, Any]) -> dict[str, Any]:
    """Ask in the conversation that `asking` names, after the message `parent`, or in a new one.

    Gives `{client_id, conversation, message, reply}`, or `{client_id, error: {type, message}}` with nothing
    stored. `client_id` makes each answer distinct, as Gradio passes on only what has changed.
    """
    client_id, conversation = str(asking["client_id"]), asking["conversation"]
    parent = None if asking.get("parent") is None else str(asking["parent"])
    try:
        if is_new := conversation is None:
            conversation = (await assistant.create_conversation(owner)).id
        try:
            asked = await assistant.ask(owner, conversation, text, parent_id=parent, client_id=client_id)
        except (AssistantError, StorageError):
            if is_new:
                await assistant.delete(owner, conversation)
            raise
    except (AssistantError, StorageError) as error:
        problem = json.loads(bytes(problem_of(error).body))
        return {"client_id": client_id, "error": {"type": problem["type"], "message": problem["detail"]}}
    return {
        "client_id": client_id,
        "conversation": conversation,
        "message": asked.message_id,
        "reply": asked.reply_id,
    }


def page_app(assistant: Assistant) -> FastAPI:
    """The page as an application, to be mounted at `/` after its lifespan was entered."""
    theme = gr.themes.Base(font=FONT, font_mono=MONO)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    return gr.mount_gradio_app(  # type: ignore[no-any-return]
        app,
        build(assistant),
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
