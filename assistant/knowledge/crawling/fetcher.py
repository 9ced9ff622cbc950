"""Fetches pages of one site from the public web, and nothing from a private network.

The name of a host is resolved here, every address that it has is checked, and the connection goes to an
address that was checked. So a name that first leads to a public address and then to a private one (DNS
rebinding) gains nothing. Each redirect is checked like the first address. What a site sends is bounded in
bytes and in time, also after it is unpacked. One request runs at a time, with a pause before the next one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

AGENT = "TechAssistant"  # the name that robots.txt may address
USER_AGENT = f"{AGENT}/0.1 (fetches documentation for its owner; obeys robots.txt)"
ACCEPT = "text/html, application/xhtml+xml, text/markdown;q=0.9, text/plain;q=0.8, */*;q=0.1"
MOST_REDIRECTS = 5
MOST_TRIES = 3  # of a page, while the site asks to come back later
LONGEST_WAIT = 60.0  # seconds that a site may ask to wait
LONGEST_VALUE = 500  # characters of a header that are kept

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]  # the addresses of a host, as text
MayFetch = Callable[[URL], Awaitable[str]]  # why an address must not be fetched; "" if it may be


class FetchFailed(Exception):
    """A page cannot be fetched. The message completes the sentence "It is left out: …"."""


class AddressRefused(FetchFailed):
    """The address must not be fetched, whoever asks."""


class Unreachable(FetchFailed):
    """The site does not answer, not in time, or not now."""


class TooMuch(FetchFailed):
    """The site sends more than was asked for."""


_EVERYDAY_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # holds an IPv4 address, to which a gateway connects
# Ranges that Python's `is_global` lets through, in this version or another.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocols, and the metadata of a cloud
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # the metadata of a cloud
        "2001::/23",  # protocols, among them Teredo, which holds an IPv4 address
        "2001:db8::/32",  # examples
        "2002::/16",  # 6to4, which holds an IPv4 address
        "3fff::/20",  # examples
    )
)


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the public web, and to no private network in any notation."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address not in _EVERYDAY_IPV6:  # the loopback, link-local, IPv4-mapped addresses and so on
            return False
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not any(address in network for network in _SPECIAL)
    )


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class _CheckedResolver(AbstractResolver):
    """Gives aiohttp the addresses that it connects to, after all of them were checked."""

    def __init__(self, resolve: Resolve, private_hosts: Collection[str]) -> None:
        self._resolve = resolve
        self._private_hosts = private_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = list(dict.fromkeys(await self._resolve(host, port)))
        if not found:
            raise OSError(f"{host} has no address")
        for address in found:
            check_address(host, address, self._private_hosts)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


def check_address(host: str, address: str, private_hosts: Collection[str]) -> None:
    if host not in private_hosts and not is_public(address):
        raise AddressRefused(f"{host} leads to {address}, which is not an address of the public web")


@dataclass(frozen=True, slots=True)
class Response:
    """What a site answered. `status` is 200, 304 or an error, and never a redirect."""

    url: URL  # after redirects
    status: int
    content_type: str  # in lower case, without parameters
    charset: str  # "" if the site states none
    etag: str
    modified: str
    robots: str  # what X-Robots-Tag asks for
    body: bytes  # unpacked


class Fetcher:
    """Fetches from the hosts of one site. Use it as an asynchronous context manager.

    `ports` are those that are allowed beside 80 and 443. The hosts in `private_hosts` may have private
    addresses. `pause` is the time in seconds between two requests, and `seconds` the longest of one."""

    def __init__(
        self,
        hosts: Collection[str],
        *,
        ports: Collection[int] = (),
        private_hosts: Collection[str] = (),
        pause: float,
        seconds: float,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        self.pause = pause
        self.received = 0  # bytes of all bodies, packed or unpacked, whichever are more
        self.requests = 0
        self._hosts = hosts
        self._ports = {80, 443, *ports}
        self._private_hosts = private_hosts
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._resolve = resolve
        self._last: float | None = None  # when the last request ended

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(self._resolve, self._private_hosts), use_dns_cache=False, limit=1
            ),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # aiohttp does not bound what it unpacks
            trust_env=False,  # a proxy would resolve the name again
            headers={"User-Agent": USER_AGENT, "Accept": ACCEPT, "Accept-Encoding": "gzip"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(
        self, url: URL, *, largest: int, may_fetch: MayFetch, etag: str = "", modified: str = ""
    ) -> Response:
        """Fetch an address, along its redirects. Raises `FetchFailed`."""
        conditions = {"If-None-Match": etag, "If-Modified-Since": modified}
        conditions = {name: value for name, value in conditions.items() if value}
        for _ in range(MOST_REDIRECTS + 1):
            self.check(url)
            if reason := await may_fetch(url):
                raise FetchFailed(reason)
            answer = await self._patient_request(url, conditions, largest)
            if isinstance(answer, Response):
                return answer
            url, conditions = answer, {}
        raise FetchFailed("it has too many redirects")

    def check(self, url: URL) -> None:
        """Refuse an address by what it says, before anything is resolved. Raises `AddressRefused`."""
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise AddressRefused("it is not an address of http or https")
        if url.user is not None or url.password is not None:
            raise AddressRefused("it holds a user name or a password")
        if url.raw_host not in self._hosts:
            raise AddressRefused(f"it leads out of the site, to {url.raw_host}")
        if url.port not in self._ports:
            raise AddressRefused(f"it leads to port {url.port}")
        try:
            address = str(ipaddress.ip_address(url.raw_host))
        except ValueError:
            return  # a name, which the resolver checks
        check_address(url.raw_host, address, self._private_hosts)

    async def _patient_request(self, url: URL, conditions: dict[str, str], largest: int) -> Response | URL:
        """The response, or where a redirect leads. Waits where the site asks to come back later."""
        for tries in range(1, MOST_TRIES + 1):
            if self._last is not None and (wait := self._last + self.pause - self._clock()) > 0:
                await self._sleep(wait)
            try:
                answer = await self._request(url, conditions, largest)
            except (aiohttp.ClientError, OSError, ValueError) as error:  # a TimeoutError is an OSError
                raise Unreachable(_reason(error)) from error
            finally:
                self._last = self._clock()
            if not isinstance(answer, float):
                return answer
            if tries < MOST_TRIES:
                await self._sleep(answer)
        raise Unreachable("the site asks to come back later")

    async def _request(self, url: URL, conditions: dict[str, str], largest: int) -> Response | URL | float:
        """The response, where a redirect leads, or how many seconds to wait."""
        self.requests += 1
        async with self._session.get(url, headers=conditions, allow_redirects=False) as response:
            headers = response.headers
            if response.status in (301, 302, 303, 307, 308):
                return joined(url, headers.get("Location", ""))
            if response.status == 429 or (response.status == 503 and "Retry-After" in headers):
                wait = headers.get("Retry-After", "")
                return min(float(wait), LONGEST_WAIT) if wait.isdecimal() else LONGEST_WAIT / 2
            body = await self._body(response, largest) if response.status == 200 else b""
            return Response(
                url=url,
                status=response.status,
                content_type=response.content_type.lower()[:LONGEST_VALUE],
                charset=(response.charset or "").lower()[:LONGEST_VALUE],
                etag=_kept(headers.get("ETag", "")),
                modified=_kept(headers.get("Last-Modified", "")),
                robots=_for_us(headers.getall("X-Robots-Tag", [])),
                body=body,
            )

    async def _body(self, response: aiohttp.ClientResponse, largest: int) -> bytes:
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packing not in ("identity", "", "gzip", "x-gzip"):
            raise FetchFailed("it is packed in a way that was not asked for")
        unpacker = zlib.decompressobj(31) if "gzip" in packing else None
        end = self._clock() + self._seconds
        body = bytearray()
        arrived = 0
        try:
            async for piece in response.content.iter_any():
                arrived += len(piece)
                if unpacker is None:
                    body += piece
                elif not unpacker.eof:
                    body += unpacker.decompress(piece, max(1, largest + 1 - len(body)))
                if max(arrived, len(body)) > largest:
                    raise TooMuch(f"it is larger than {in_words(largest)}")
                if self._clock() > end:
                    raise Unreachable("the site sends it too slowly")
        except zlib.error as error:
            raise FetchFailed("it is packed, and broken") from error
        finally:
            self.received += max(arrived, len(body))
        if unpacker is not None and not unpacker.eof:
            raise FetchFailed("it is packed, and incomplete")
        return bytes(body)


def joined(url: URL, reference: str) -> URL:
    """The address to which a page refers. Raises `FetchFailed`."""
    try:
        return url.join(URL(reference.strip())).with_fragment(None)
    except ValueError as error:
        raise FetchFailed("it refers to what is no address") from error


def unpacked(data: bytes, largest: int) -> bytes:
    """What gzip packed into a file. Raises `FetchFailed`."""
    try:
        unpacker = zlib.decompressobj(31)
        text = unpacker.decompress(data, largest + 1)
    except zlib.error as error:
        raise FetchFailed("it is packed, and broken") from error
    if len(text) > largest:
        raise TooMuch(f"it is larger than {in_words(largest)}")
    return text


def in_words(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size:,} bytes"


def _for_us(values: Sequence[str]) -> str:
    """What the X-Robots-Tag headers ask of all robots, or of this one by its name."""
    named = (value.lower().rpartition(":") for value in values)
    return " ".join(asks for name, _, asks in named if name.strip() in ("", AGENT.lower()))[:LONGEST_VALUE]


def _kept(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE and value.isprintable() and value.isascii() else ""


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the site took too long"
    if isinstance(error, aiohttp.ClientSSLError):
        return "the site's certificate is not valid for it"
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerDisconnectedError):
        return "the site cannot be reached"
    return "the site's answer is broken"
