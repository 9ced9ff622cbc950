"""Whether a request comes from the operator."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection

from assistant.accounts import KeyScope, Role
from assistant.web.identity import account_of, scopes_of
from assistant.web.security import is_this_machine

# Headers that proxies add: a request through a proxy does not come from this machine.
FORWARDED = re.compile(r"forwarded|x-forwarded-\w+|via|x-real-ip|(true|cf)-(client|connecting)-ip")


def is_operator(connection: HTTPConnection, *, may_manage: bool) -> bool:
    """Whether a request is the operator's: an operator has signed in, a program has a key of an operator with
    the scope `operator`, or the request has shown the operator's key. With `may_manage`, a request from this
    machine counts too."""
    if connection.scope["state"].get("has_operator_key"):
        return True
    if (account := account_of(connection)) is not None:
        scopes = scopes_of(connection)
        return account.role is Role.OPERATOR and (scopes is None or KeyScope.OPERATOR in scopes)
    headers = connection.headers
    is_here = may_manage and is_this_machine(headers.get("host", ""))
    return is_here and not any(FORWARDED.fullmatch(name) for name in headers)
