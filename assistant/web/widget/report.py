"""The report of a site at `/sites/KEY/report`, for whoever has its secret.

A program sends the secret as `Authorization: Bearer SECRET`. A person posts it in a form, and gets a cookie
that is good for this site's report alone, for `SIGNED_IN_SECONDS`, and until the site gets another secret. An
unknown site and a wrong secret get the same answer, and who guesses must wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from itsdangerous import BadSignature, TimestampSigner
from starlette.responses import HTMLResponse, RedirectResponse, Response

from assistant.report.formats import as_csv
from assistant.report.report import PERIODS, SiteReport, beginning, make_report
from assistant.sites import Site, Sites, hash_of
from assistant.web.connections import address_of
from assistant.web.identity import values_of
from assistant.web.throttle import Throttle
from assistant.web.widget.report_page import POLICY, report_page, sign_in_page
from storage.exchanges import ExchangeStore

SIGNED_IN_SECONDS = 3600
USUAL_DAYS = 30
LONGEST_SECRET = 500  # characters
LONGEST_FORM = 4096  # bytes
LONGEST_COOKIE = 200  # bytes
COOKIE = "ta-report"
NO_SECRET = hash_of("")  # of a site that does not exist, or has no secret: nothing is compared in less time
WRONG = "There is no such site, or the secret is wrong. The operator can make a new secret."
TOO_MANY = "There were too many wrong secrets from your address. Try again in {} seconds."


class ReportDoor:
    """Who may see the report of which site. `key` signs the cookies."""

    def __init__(self, sites: Sites, key: bytes) -> None:
        self._sites = sites
        self._key = key
        self._throttle = Throttle()

    def by_header(self, request: Request, key: str) -> Site | Response | None:
        """The site whose secret is in the header, or why it is not shown; None without such a header."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        return self.by_secret(request, key, secret.strip()) if scheme.lower() == "bearer" else None

    def by_secret(self, request: Request, key: str, secret: str) -> Site | Response:
        """The site, if this is the secret of its report; else the answer that says why not."""
        address = address_of(request.client.host if request.client else "")
        door = hashlib.sha256(key.encode()).hexdigest()
        if (seconds := math.ceil(self._throttle.seconds(address, door))) > 0:
            page = sign_in_page(problem=TOO_MANY.format(seconds))
            return _page(page, 429, {"Retry-After": str(seconds)})
        site = self._sites.get(key)
        expected = NO_SECRET if site is None else site.report_secret_hash or NO_SECRET
        is_same = hmac.compare_digest(hash_of(secret[:LONGEST_SECRET]), expected)
        is_right = is_same and bool(secret) and site is not None
        if not self._throttle.admits(address, door, is_right=is_right) or site is None:
            return _refusal(WRONG)
        return site

    def by_cookie(self, request: Request, key: str) -> Site | None:
        """The site for which this browser is signed in."""
        site = self._sites.get(key)
        if site is None or not site.report_secret_hash:
            return None
        sent = [value for name, value in request.scope["headers"] if name == b"cookie"]
        for value in values_of(_cookie_name(request).encode(), sent):
            try:
                if len(value) <= LONGEST_COOKIE:
                    self._signer(site).unsign(value, max_age=SIGNED_IN_SECONDS)
                    return site
            except BadSignature:
                continue
        return None

    def cookie(self, request: Request, site: Site) -> str:
        """The `Set-Cookie` value that signs a browser in."""
        value = self._signer(site).sign(b"owner").decode()
        return f"{_cookie_name(request)}={value}; Max-Age={SIGNED_IN_SECONDS}; {_ends(request, site.key)}"

    def _signer(self, site: Site) -> TimestampSigner:
        """Signs for a site and for its secret of now: with another one, no earlier cookie is valid."""
        salt = f"report of {site.key} {site.report_secret_hash}"
        return TimestampSigner(self._key, salt=salt, digest_method=hashlib.sha256)


def add_report_routes(
    app: FastAPI,
    sites: Sites,
    exchanges: ExchangeStore,
    *,
    key: bytes,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    door = ReportDoor(sites, key)
    making = asyncio.Semaphore(1)  # a report takes up to seconds of CPU, so one is made at a time

    async def report_of(site: Site, days: int) -> SiteReport:
        async with making:
            moment = now()
            found = await exchanges.of_site(site.key, since=beginning(days, moment))
            return await asyncio.to_thread(make_report, found, days, moment)

    def site_of(request: Request, key: str) -> Site | Response:
        by_header = door.by_header(request, key)
        return by_header or door.by_cookie(request, key) or _refusal()

    @app.api_route("/sites/{key}/report", methods=["GET", "HEAD"], include_in_schema=False)
    async def report(request: Request, key: str) -> Response:
        if isinstance(site := site_of(request, key), Response):
            return site
        days = _days(request)
        made = await report_of(site, days)
        return _page(report_page(made, name=site.name, days=days))

    @app.api_route("/sites/{key}/report.csv", methods=["GET", "HEAD"], include_in_schema=False)
    async def table(request: Request, key: str) -> Response:
        if isinstance(site := site_of(request, key), Response):
            return site
        days = _days(request)
        text = as_csv(await report_of(site, days))
        headers = {
            "Content-Disposition": f'attachment; filename="gaps-{site.key}-{days}-days.csv"',
            "Cache-Control": "no-store, private",
        }
        # The mark at the beginning tells spreadsheets that it is UTF-8.
        return Response(text.encode("utf-8-sig"), headers=headers, media_type="text/csv; charset=utf-8")

    @app.post("/sites/{key}/report", include_in_schema=False)
    async def sign_in(request: Request, key: str) -> Response:
        form = (await request.body())[: LONGEST_FORM + 1]
        if len(form) > LONGEST_FORM:
            return _refusal(WRONG)
        pairs = parse_qsl(form.decode("latin-1"), errors="replace")
        site = door.by_secret(request, key, dict(pairs).get("secret", "").strip())
        if isinstance(site, Response):
            return site
        return _to_report(request, site.key, door.cookie(request, site))

    @app.post("/sites/{key}/sign-out", include_in_schema=False)
    async def sign_out(request: Request, key: str) -> Response:
        if door.by_cookie(request, key) is None:
            return _refusal()
        return _to_report(request, key, f"{_cookie_name(request)}=; Max-Age=0; {_ends(request, key)}")


def _days(request: Request) -> int:
    """The period that is asked for, or the usual one."""
    wanted = request.query_params.get("days", "")
    return int(wanted) if wanted in map(str, PERIODS) else USUAL_DAYS


def _cookie_name(request: Request) -> str:
    return f"__Secure-{COOKIE}" if request.url.scheme == "https" else COOKIE


def _ends(request: Request, key: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"Path=/sites/{key}; HttpOnly; SameSite=Strict{secure}"


def _to_report(request: Request, key: str, cookie: str) -> Response:
    headers = {"Set-Cookie": cookie, "Cache-Control": "no-store, private"}
    return RedirectResponse(f"/sites/{key}/report", 303, headers)


def _refusal(problem: str = "") -> Response:
    return _page(sign_in_page(problem=problem), 401, {"WWW-Authenticate": "Bearer"})


def _page(page: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    policy = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store, private"}
    return HTMLResponse(page, status, {**policy, **(headers or {})})
