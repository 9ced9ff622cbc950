"""Masks personal data and secrets in what people write, before somebody else reads it.

    text ──> found: where something is, and what it is ──> masked: a word in brackets in its place

Each kind is a pattern, and some have a check of what the pattern found, such as the check digit of a card.
What cannot belong to a person stays, because a question often needs it: addresses of examples and of one's
own machine, versions, placeholders. No pattern can match more than `LONGEST` characters, so the time is
proportional to the length of the text, whatever it holds.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

LONGEST = 10_000  # characters of the longest thing that is found: a private key


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to hide: `text[start:end]`."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Kind:
    """What `pattern` matches, or its group `it`, is hidden as `[name]` if `check` agrees."""

    name: str
    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], bool] = lambda match: True


def masked(text: str) -> str:
    """The text, in which a word in brackets stands for each piece of personal data and each secret."""
    pieces: list[str] = []
    end = 0
    for one in found(text):
        pieces += [text[end : one.start], f"[{one.kind}]"]
        end = one.end
    return "".join([*pieces, text[end:]])


def found(text: str) -> list[Finding]:
    """What is to be hidden in a text, in order, without overlaps: the first of `KINDS` counts."""
    is_taken = bytearray(len(text))
    findings: list[Finding] = []
    for kind in KINDS:
        for start, end in _matches(kind, text):
            if not any(is_taken[start:end]):
                is_taken[start:end] = b"\1" * (end - start)
                findings.append(Finding(start, end, kind.name))
    return sorted(findings, key=lambda one: one.start)


def _matches(kind: Kind, text: str) -> Iterator[tuple[int, int]]:
    for match in kind.pattern.finditer(text):
        if kind.check(match):
            yield match.span("it" if "it" in kind.pattern.groupindex else 0)


# Secrets

# Tokens that say whose they are.
TOKENS = r"""
    eyJ[\w-]{10,2000}\.[\w-]{4,4000}(?:\.[\w-]{0,2000})?              # JSON Web Token
  | (?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}                               # AWS
  | AIza[\w-]{35} | ya29\.[\w-]{20,500} | GOCSPX-[\w-]{20,60}         # Google
  | gh[pousr]_[A-Za-z0-9]{30,255} | github_pat_\w{22,255}             # GitHub
  | gl(?:pat|ptt|dt|rt|cbt|soat)-[\w-]{20,300}                        # GitLab
  | (?:xox[abeoprs]|xapp)-[\w-]{10,300}                               # Slack
  | (?<=hooks\.slack\.com/services/)[\w/]{20,100}
  | (?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{10,250} | whsec_\w{20,100} # Stripe
  | sk-(?=[\w-]{0,60}\d)[\w-]{20,300}                                 # OpenAI, Anthropic and others
  | hf_[A-Za-z0-9]{30,60} | npm_[A-Za-z0-9]{36} | pypi-[\w-]{50,500}  # Hugging Face, npm, PyPI
  | SG\.[\w-]{16,64}\.[\w-]{16,64} | do[opr]_v1_[0-9a-f]{64}          # SendGrid, DigitalOcean
  | \d{8,10}:AA[\w-]{33}                                              # Telegram
  | (?:SK|AC)[0-9a-f]{32}                                             # Twilio
  | AGE-SECRET-KEY-1[0-9A-Z]{58}
"""
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!-)){0,9000}"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
)
CREDENTIALS = re.compile(r"(?<=://)(?P<it>[^\s/?#@\"'<>]{1,300})@(?=[\w\[])")
AUTHORIZATION = re.compile(
    r"\b(?:bearer|basic|token)[ \t]{1,3}(?P<it>[\w.~+/-]{16,2000}={0,2})", re.IGNORECASE
)
# A name that ends like that of a secret, and its value: in quotation marks, or alone.
SECRET = (
    r"(?:passwor[dt]|passwd|passphrase|pwd|secret|token|credentials?"
    r"|(?:api|access|auth|private|account|encryption|secret)[_-]?key)"
)
VALUE = (
    r"(?P<quote>[\"'`])?(?P<it>(?(quote)[^\"'`\s]{4,500}|[^\s\"'`,;&<>(){}\[\]]{6,500}))(?(quote)(?P=quote))"
)
ASSIGNMENT = re.compile(
    rf"{SECRET}[\"'`\]]{{0,2}}[ \t]{{0,3}}(?:=>|:=|[=:])[ \t]{{0,3}}{VALUE}", re.IGNORECASE
)
OPTION = re.compile(rf"(?<!\w)--[\w-]{{0,20}}{SECRET}[ =]{VALUE}", re.IGNORECASE)
RANDOM = re.compile(r"[A-Za-z0-9+_-]{20,500}={0,2}")
PLACEHOLDER = re.compile(
    r"[<{$%\[].*|.*(?:your|my|example|change|placeholder|redacted|secret|passwor[dt]|token|key|xxx|\*\*\*|\.\.\.).*"
    r"|(?:str|string|bytes|none|null|true|false|undefined|required|optional|any|text|test(?:ing)?)\b.*",
    re.IGNORECASE,
)


def _is_credential(match: re.Match[str]) -> bool:
    name, colon, password = match["it"].partition(":")
    if colon:
        return bool(password) and not PLACEHOLDER.fullmatch(password)
    return name.lower() not in NOBODIES and (len(name) >= 12 or "." in name)


def _is_random(text: str) -> bool:
    """Whether a text looks like drawn by lot: it goes back and forth between small letters, capitals and
    digits, is not made of words, and few characters repeat. Names in camel case are made of words, and
    digests in hexadecimal have no capitals."""
    text = text.rstrip("=")
    in_words = sum(map(len, re.findall(r"[a-z]{3,500}", text)))
    kinds = [2 if letter.isdigit() else letter.isupper() for letter in text if letter.isalnum()]
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    numbers = len(re.findall(r"\d{1,500}", text))
    if (
        not kinds
        or {*kinds} != {0, 1, 2}
        or numbers < 2
        or changes < 0.42 * len(kinds)
        or in_words > 0.42 * len(kinds)
    ):
        return False
    return _entropy(text) >= min(3.8, 0.8 * math.log2(len(text)))


def _entropy(text: str) -> float:
    """Shannon's entropy of the characters, in bits each."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _is_secret(match: re.Match[str]) -> bool:
    """Whether a value is written out, and is neither a placeholder nor code that gets it from elsewhere."""
    value = match["it"]
    if PLACEHOLDER.fullmatch(value):
        return False
    if match["quote"]:
        return True
    has_both = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return has_both and not re.fullmatch(r"[\w-]{1,100}(?:\.[A-Za-z_]\w{0,100}){1,9}", value)


# People

EMAIL = re.compile(
    r"(?<![\w.+/-])(?P<name>[\w.+'-]{1,64})@(?P<host>(?:[\w-]{1,63}\.){1,5}[^\W\d_]{2,24})(?![\w(-]|\.\w)"
)
PROMPT = re.compile(r"(?<![\w.@/-])(?P<it>(?P<name>[a-z_][\w.-]{0,31})@[\w.-]{1,63})(?=:[~/])")
HOME = re.compile(
    r"(?:(?:(?<![\w.-])|(?<=/mnt/[a-z]))/(?:home|Users)/|\b[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2})"
    r"(?P<it>[\w.-]{1,40}(?: [\w.-]{1,30}){0,2}(?=[\\/])|[\w.-]{1,40}(?![\w.-]))"
)
# Who has a host or a home, and is nobody.
NOBODIES = frozenset(
    """
    git user username user_name yourname your_name name you me myuser root admin ubuntu debian ec2-user pi
    vagrant runner runneradmin vscode node app jovyan docker www-data nobody public shared default guest test
    linuxbrew postgres oauth2 x-access-token someone somebody deploy
    """.split()  # noqa: SIM905 - a table to read
)
EXAMPLE_HOST = re.compile(
    r"(?:.*\.)?(?:example(?:\.(?:com|org|net|edu))?|test|invalid|local|localhost)", re.IGNORECASE
)
FILE = re.compile(r".*\.(?:html?|php|js|css|json|txt|png|jpe?g|svg|md|py|xml|aspx?)", re.IGNORECASE)

INTERNATIONAL = re.compile(r"(?<![\w+.-])(?:\+|00(?=[1-9]\d[ /-]))[1-9](?:[ ()./-]{0,3}\d){7,14}(?![\w-])")
NATIONAL = re.compile(
    r"(?<![\w.+/:-])(?:\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}([.-])\d{3}\1\d{4}"  # North America
    r"|\(?0[1-9]\d{1,3}\)?(?: ?/ ?|[ -])[1-9]\d{2,7}(?:[ -]\d{2,6}){0,3}"  # Germany, Britain
    r"|0[1-9](?:([ .-])\d\d)(?:\2\d\d){3})(?![\w/:-]|\.\d)"  # France
)
CALLED = re.compile(
    r"\b(?:tel(?:efon|ephone)?|phone|mobile|cell|handy|fax|whatsapp|call me)\b[^\d\n+]{0,15}"
    r"(?P<it>\+?\d(?:[ ()./-]{0,2}\d){6,14})(?!\w)",
    re.IGNORECASE,
)
CARD = re.compile(
    r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w-]|\.\d)"
    r"|(?<![\w.-])3\d{3}[ -]\d{6}[ -]\d{5}(?![\w.-])"
)
IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")

IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\w)")
IPV6 = re.compile(r"(?<![\w:.])[23][0-9a-f]{3}:[0-9a-f:]{2,34}(?![\w:])", re.IGNORECASE)
IN_FRONT_OF_A_VERSION = re.compile(
    r"(?:\b(?:versions?|ver|v|releases?|build|driver|firmware)[.:=]? ?|[=<>~!]=\s?|\^|\w[/_-])$",
    re.IGNORECASE,
)
RESOLVERS = frozenset({"8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "2001:4860:4860::8888"})


def _is_persons(match: re.Match[str]) -> bool:
    """Whether an address of e-mail belongs to a person: `git@github.com` and those of examples do not."""
    return match["name"].lower() not in ("git", "noreply") and not EXAMPLE_HOST.fullmatch(match["host"])


def _is_somebody(match: re.Match[str]) -> bool:
    name = match["it"].partition("@")[0].lower()
    return name not in NOBODIES and not FILE.fullmatch(name)


def _has_digits(least: int, most: int) -> Callable[[re.Match[str]], bool]:
    return lambda match: least <= sum(map(str.isdigit, match[0])) <= most


def _is_card(match: re.Match[str]) -> bool:
    """The check digit of ISO 7812 (Luhn), and at least two different digits."""
    digits = [int(digit) for digit in match[0] if digit.isdigit()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + doubled) % 10 == 0 and len({*digits}) > 1


def _is_iban(match: re.Match[str]) -> bool:
    """The check digits of ISO 13616."""
    plain = match[0].replace(" ", "")
    return len(plain) >= 15 and int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _is_public(match: re.Match[str]) -> bool:
    """Whether it is an address that others reach. Those of this machine, of local networks and of documents
    stay, and those of well-known name servers, and what is a version."""
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    is_version = IN_FRONT_OF_A_VERSION.search(match.string, max(0, match.start() - 12), match.start())
    return address.is_global and not address.is_multicast and str(address) not in RESOLVERS and not is_version


KINDS = (
    Kind("key", PRIVATE_KEY),
    Kind("token", re.compile(rf"(?<![A-Za-z0-9])(?:{TOKENS})(?![A-Za-z0-9])", re.VERBOSE)),
    Kind("password", CREDENTIALS, _is_credential),
    Kind("token", AUTHORIZATION, lambda match: any(map(str.isdigit, match["it"]))),
    Kind("password", ASSIGNMENT, _is_secret),
    Kind("password", OPTION, _is_secret),
    Kind("e-mail", EMAIL, _is_persons),
    Kind("user", PROMPT, _is_somebody),
    Kind("user", HOME, _is_somebody),
    Kind("card number", CARD, _is_card),
    Kind("bank account", IBAN, _is_iban),
    Kind("phone", INTERNATIONAL, _has_digits(8, 15)),
    Kind("phone", NATIONAL, _has_digits(9, 13)),
    Kind("phone", CALLED),
    Kind("IP address", IPV4, _is_public),
    Kind("IP address", IPV6, _is_public),
    Kind("token", RANDOM, lambda match: _is_random(match[0])),
)
