"""The proxies of `deploy/` in front of the real application; only names, ports and one time limit differ."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from assistant.web.throttle import WRONG_KEYS
from tests.support.application import PATIENCE, ROOT, Application, running, upstream, wait_for

SECONDS = {"client_header_timeout 10s": "client_header_timeout 1s", "read_header 10s": "read_header 1s"}


@dataclass
class Proxy:
    address: str
    application: Application
    client: httpx.Client

    def connect(self) -> ssl.SSLSocket:
        url = httpx.URL(self.address)
        context = ssl._create_unverified_context()
        connection = socket.create_connection((url.host, url.port), timeout=PATIENCE)
        return context.wrap_socket(connection, server_hostname="localhost")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def replaced(text: str, **changes: str) -> str:
    for old, new in {**SECONDS, **changes}.items():
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    names = {"-keyout": folder / "key.pem", "-out": folder / "cert.pem"}
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*made, *(str(part) for pair in names.items() for part in pair)], check=True)
    text = (ROOT / "deploy/nginx.conf").read_text()
    text = re.sub(r"server \{\n    listen 80;.*?\n\}\n", "", text, flags=re.DOTALL)
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:7860": upstream,
        "chat.example.org": "localhost",
        "/etc/letsencrypt/live/localhost/fullchain.pem": str(folder / "cert.pem"),
        "/etc/letsencrypt/live/localhost/privkey.pem": str(folder / "key.pem"),
    }
    kept = " ".join(f"{kind}_temp_path {folder};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    kept += f" client_body_temp_path {folder}; access_log off;"
    (folder / "site.conf").write_text(replaced(text, **changes))
    main = f"daemon off; pid {folder}/pid; events {{}} http {{ {kept} include {folder}/site.conf; }}"
    (folder / "nginx.conf").write_text(main)
    return ["nginx", "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, upstream: str) -> list[str]:
    options = f"{{\n\tadmin off\n\tskip_install_trust\n\tstorage file_system {folder}\n"
    options += "\tauto_https disable_redirects\n"
    changes = {
        "127.0.0.1:7860": upstream,
        "\nchat.example.org {": f"\nhttps://localhost:{port}, https://127.0.0.1:{port} {{\n\ttls internal",
        "\n{\n\tservers": f"\n{options}\tservers",
    }
    (folder / "Caddyfile").write_text(replaced((ROOT / "deploy/Caddyfile").read_text(), **changes))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.fixture(scope="module", params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    for program in (request.param.__name__, "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(upstream("One two three four five. " * 20, rate=20))
        exposed = ("--expose-serving", "--serving-key", "k" * 16)
        arguments = ("--upstream", url, "--proxies", "127.0.0.1", *exposed)
        application = stack.enter_context(running(folder / "data", *arguments, page=False))
        application.wait_until("ready")
        command = request.param(folder, port, application.address.removeprefix("http://"))
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        address = f"https://localhost:{port}"
        client = stack.enter_context(httpx.Client(base_url=address, verify=False, timeout=PATIENCE))
        wait_for(lambda: client.get("/health").status_code == 200)
        yield Proxy(address, application, client)


def test_a_cookie_is_secure_and_the_host_unchanged(proxy: Proxy) -> None:
    with httpx.Client(base_url=proxy.address, verify=False, timeout=PATIENCE) as client:
        answer = client.post("/api/conversations", headers={"Origin": proxy.address})
        assert answer.status_code == 201
        assert "; Secure" in answer.headers["set-cookie"]
        assert answer.headers["strict-transport-security"]


def test_events_arrive_while_the_answer_is_written(proxy: Proxy) -> None:
    chat = proxy.client.post("/api/conversations").json()["id"]
    body = {"text": "q"}
    reply = proxy.client.post(f"/api/conversations/{chat}/messages", json=body).json()["reply_id"]
    with proxy.client.stream("GET", f"/api/replies/{reply}/events") as events:
        while b"delta" not in next(events.iter_raw()):
            pass
        assert proxy.client.get(f"/api/replies/{reply}").json()["status"] != "done"


def test_headers_and_bodies_have_the_limits_of_the_application(proxy: Proxy) -> None:
    cookie = {"Cookie": "c" * 7000}
    assert proxy.client.get("/health", headers=cookie).status_code == 200
    large = proxy.client.get("/health", headers={f"x-{number}": "c" * 7000 for number in range(6)})
    assert large.status_code == 431
    body = b" " * (300 << 10)
    with proxy.client.stream(
        "POST", "/api/conversations", content=body
    ) as answer:  # the proxy may not read the rest
        assert answer.status_code == 413


def test_a_connection_with_half_a_header_is_closed(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: a")
        with contextlib.suppress(ConnectionError):
            while connection.recv(1 << 16):
                pass


def test_the_clients_address_counts_whatever_its_headers_claim(proxy: Proxy) -> None:
    """The limit of wrong keys shows it, since it counts by address."""
    answers = []
    for host in ("127.0.0.2", "127.0.0.3"):
        transport = httpx.HTTPTransport(local_address=host, verify=False)
        with httpx.Client(base_url=proxy.address, transport=transport, timeout=PATIENCE) as client:
            for number in range(WRONG_KEYS + 1):
                said = f"203.0.113.{number}"
                headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": said, "X-Real-IP": said}
                answers.append(client.get("/v1/models", headers=headers).status_code)
    assert answers == 2 * [*WRONG_KEYS * [401], 429]
