"""What is masked, what stays, and how long it takes."""

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.privacy.masking import KINDS, LONGEST, found, masked

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
BODY = "MIIEpAIBAAKCAQEA7v3+/x\nq0Z9=\n"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}-----END RSA PRIVATE KEY-----"
GITHUB = "ghp_" + "aB3dE5fG7h" * 3 + "aB3dE5"  # no real token: secret scanners look for whole ones

# A text, in which {braces} mark what is masked, and the word that takes their place.
MASKED = [
    # e-mail
    ("Why does {ann.lee@acme.io} get no mail?", "e-mail"),
    ("mail <{ann+docs@mail.acme.co.uk}>.", "e-mail"),
    ("{j.o'brien@uni-köln.de}, please", "e-mail"),
    ("user={ann_lee@acme.io}&x=1", "e-mail"),
    ("author: Ann ({ann@acme.dev})", "e-mail"),
    # phone
    ("Call {+49 170 1234567} or write", "phone"),
    ("reach me at {+1 (555) 123-4567}.", "phone"),
    ("{+442079460958} is my number", "phone"),
    ("{0049 30 901820} was tried", "phone"),
    ("my number is {(555) 123-4567}", "phone"),
    ("SMS to {555-123-4567} fails", "phone"),
    ("SMS to {555.123.4567} fails", "phone"),
    ("Tel.: {0171/2345678}", "phone"),
    ("I am at {030 9018 20220} today", "phone"),
    ("appelez le {01 42 34 56 78}", "phone"),
    ("phone {5551234567}", "phone"),
    ("call me: {5551234}", "phone"),
    # addresses
    ("ssh to {93.184.216.34} hangs", "IP address"),
    ("http://{93.184.216.34}:8080/x", "IP address"),
    ("from {93.184.216.34}/24", "IP address"),
    ("host={93.184.216.34}", "IP address"),
    ("root@{93.184.216.34}", "IP address"),
    ("::ffff:{93.184.216.34}", "IP address"),
    ("listen [{2a00:1450:4001:82a::200e}]:443", "IP address"),
    ("{2001:470:1f0b:0:0:0:0:1} is down", "IP address"),
    # tokens and keys of known shapes
    (f"curl -H 'X-Token: {{{GITHUB}}}'", "token"),
    ("aws: {AKIA" + "QYLPMN5HFIQR7XYA}", "token"),
    ("key {AIza" + "SyD3x8Kq1LmZp0vT7uWn2RjYb5cEaHfGi4o}", "token"),
    ("{glpat-" + "x8Kq1LmZp0vT7uWn2RjY}", "token"),
    ("{xoxb-" + "123456789012-abcDEF123456}", "token"),
    ("https://hooks.slack.com/services/{T0" + "1ABCDEF/B01ABCDEF/x8Kq1LmZp0vT}", "token"),
    ("stripe.api_key = '{sk_live_" + "x8Kq1LmZp0vT7uWn2RjY}'", "token"),
    ("OPENAI={sk-" + "proj-x8Kq1LmZp0vT7uWn2RjYb5cE}", "token"),
    ("login {hf_" + "abcdEFGHijklMNOPqrstUVWXyzabCDEFgh}", "token"),
    (f"Cookie: session={{{JWT}}}", "token"),
    ("Authorization: Bearer {x8Kq1LmZp0vT7uWn2RjY}", "token"),
    ("Authorization: Basic {YW5uOmh1bnRlcjIyMjI=}", "token"),
    (f"my key\n{{{PEM}}}\nis refused", "key"),
    (f"{{-----BEGIN PRIVATE KEY-----\n{BODY}}}", "key"),  # its end is missing
    ("id {Zx8Kq1LmZp0vT7uWn2RjYb5cEaHf} is refused", "token"),  # by its letters alone
    # passwords
    ("postgresql://{ann:hunter22}@db.acme.io/x", "password"),
    ("redis://{:hunter22}@cache", "password"),
    ("https://{x8Kq1LmZp0vT7uWn2RjY}@git.acme.io/r.git", "password"),
    ('password = "{hunter22}"', "password"),
    ("DB_PASSWORD={hunter22}", "password"),
    ("'secret': '{correct-horse}',", "password"),
    ("api_key: {4f3c2b1a09}", "password"),
    ('os.environ["SECRET_KEY"] = "{django-insecure-1}"', "password"),
    ("mysql --password={hunter22} -u ann", "password"),
    ("tool --api-token {4f3c2b1a09}", "password"),
    ("?access_token={4f3c2b1a09}&x=1", "password"),
    ("AccountKey={x8Kq1LmZp0vT7uWn2RjY==};", "password"),
    # names of users
    ('File "/home/{annlee}/app.py", line 3', "user"),
    ("/Users/{ann.lee}/Library", "user"),
    (r"C:\Users\{Ann Lee}\AppData", "user"),
    (r"C:\\Users\\{annlee}\\x", "user"),
    ("C:/Users/{annlee}/x", "user"),
    ("/mnt/c/Users/{annlee}/x", "user"),
    ("file:///home/{annlee}", "user"),
    ("{ann@thinkpad}:~/src$ make", "user"),
    # cards and accounts
    ("pay with {4111 1111 1111 1111}", "card number"),
    ("card={5500005555555559}", "card number"),
    ("{3782 822463 10005} is refused", "card number"),
    ("IBAN {DE89 3704 0044 0532 0130 00}", "bank account"),
    ("to {GB82WEST12345698765432}.", "bank account"),
]
# What a question needs, and what says nothing of a person.
KEPT = """
Why does git clone git@github.com:psf/requests.git fail?
Send mail to user@example.com or ann@mail.example.org
ann@localhost and root@server.local
@app.route("/x") and @pytest.mark.parametrize
pip install "git+https://github.com/psf/requests.git@v2.31.0"
npm i lodash@latest @types/node@20.1.0
X@W.sum(axis=0)
a@b.T + self.w@self.x
version 1.2.3.4 and v10.20.30.40 of the driver
requests==2.31.0.1, nginx/1.25.3.1, foo-1.2.3.4.tar.gz, >=1.2.3.4
127.0.0.1:8000, 0.0.0.0, 192.168.1.10, 10.0.0.5/8, 172.16.0.1, 169.254.1.1
192.0.2.1 and 203.0.113.7 stand for any address, 255.255.255.0 is a mask
nameserver 8.8.8.8 or 1.1.1.1
300.400.500.600 is no address; 1.2.3.4.5 neither
Chrome/120.0.6099.109 on Windows 10.0.22631.3007
::1, fe80::1, fd00::1234, 2001:db8::1, std::vector<int>, a::b
at 12:34:56 on 2024-01-31, 2024-01-31T12:34:56+02:00, 01-02-2024 10:20
1706700896 1706700896123 0x7fff5fbff8c0 1e+10 +1000000
range(100, 200), 100-200, 3.14159265358979, 2**64 = 18446744073709551616
ISBN 978-3-16-148410-0, RFC 2616, ERR-404-1234, exit code 137
HTTP 404 500 502 503, ports 8080 8443 5432 6379
@@ -12,7 +12,8 @@ and lines 120-340
1234 5678 9012 3456 is no card, 4111 1111 1111 1112 neither
commit 9fceb02d0ae598e95dc970b74767f19372d61af8, d384047
sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
uuid 123e4567-e89b-12d3-a456-426614174000
getUserById2FromDatabaseAsync, test_utf8_and_latin1_names_are_read_2
AbstractSingletonProxyFactoryBean2ConfigurationV3, ThisIsALongCamelCaseNameWithHTTP2AndUTF8
src/components/Foo2Bar/index.test.tsx and /usr/lib/python3.11/site-packages
sklearn.model_selection.cross_val_score, torch.nn.functional.scaled_dot_product_attention
password = os.environ["DB_PASSWORD"]
password: str = Field(min_length=8), token: Optional[str] = None
token = get_token(), secret = settings.secret_key, password=request.form.password1
api_key="YOUR_API_KEY", password="<password>", secret=${SECRET}, token=****
password="changeme" and "password": "password123"
How do I reset a password: by mail or by phone?
postgresql://user:password@localhost/db and ssh://git@github.com/x.git
Authorization: Bearer <token>, bearer authentication, basic authentication-schemes
sk-learn, sk-SK, hf_hub_download, npm_config_registry, pypi-simple, eyJ
-----BEGIN CERTIFICATE----- and -----BEGIN PUBLIC KEY-----
/home/user/app, /home/runner/work, /Users/Shared, C:\\Users\\Public\\x, /home/<name>/x
https://example.com/home/index, http://localhost:8000/home/page, /home/index.html
SELECT * FROM users WHERE id = 12345678 AND zip = '12345-6789'
np.array([[0.1, 0.25], [100, 200]]), 010 020 030, 0001 0002 0003
TypeError: f() takes 0 positional arguments but 1 was given
""".strip().split("\n")


@pytest.mark.parametrize(("marked", "kind"), MASKED)
def test_what_is_private_is_masked_and_nothing_around_it(marked: str, kind: str) -> None:
    before, private, after = re.fullmatch(r"(.*?)\{(.*)\}(.*)", marked, re.DOTALL).groups()
    assert masked(before + private + after) == f"{before}[{kind}]{after}"


@pytest.mark.parametrize("line", KEPT)
def test_what_a_question_needs_stays(line: str) -> None:
    assert masked(line) == line


def test_a_text_of_everything_keeps_only_its_words() -> None:
    texts = [re.sub(r"[{}]", "", marked) for marked, _ in MASKED]
    private = [re.search(r"\{(.*)\}", marked, re.DOTALL)[1] for marked, _ in MASKED]
    result = masked("\n\n".join(texts))
    assert [one for one in private if one in result] == []
    assert masked("\n".join(KEPT)) == "\n".join(KEPT)


@given(st.text(alphabet=st.sampled_from("a1@.:/-+ _=\"'[(Z9\n[]"), max_size=300))
def test_findings_are_ordered_apart_and_inside_the_text(text: str) -> None:
    end = 0
    for one in found(text):
        assert end <= one.start < one.end <= len(text)
        end = one.end
    assert masked(masked(text)) == masked(text) or "@" in text


def test_what_is_drawn_by_lot_is_nearly_always_found() -> None:
    chance = random.Random(1)
    letters = string.ascii_letters + string.digits
    drawn = ["".join(chance.choices(letters, k=32)) for _ in range(500)]
    assert sum("[token]" in masked(f"use {one} here") for one in drawn) >= 465


def test_no_pattern_can_match_much_so_that_the_time_is_proportional_to_the_text() -> None:
    """From each character on, a pattern then looks at most at `LONGEST` others."""
    parse = re._parser.parse  # no other way to ask how much a pattern can match
    for kind in KINDS:
        assert parse(kind.pattern.pattern, kind.pattern.flags).getwidth()[1] <= LONGEST, kind
        nested = re.compile(r"\([^()]*\{\d*,\d+\}[^()]*\)\{\d*,\d{2,}\}")
        assert nested.findall(kind.pattern.pattern) == [], kind


# Quadratic work on any of these takes minutes.
@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "A1b2",
            "1",
            "1 ",
            "0",
            "@",
            "a@",
            "a.",
            "a@a.",
            ".",
            "-",
            "+1 ",
            ":",
            "a:",
            "2:",
            "1.",
            "/home/",
            " ",
        ),
        *(
            "://",
            "://a:",
            "password=",
            "password ",
            "--token ",
            "eyJa.",
            "-----BEGIN PRIVATE KEY-----a",
            "Bearer a1",
        ),
        *(
            "=",
            "'",
            '"',
            "\\Users\\",
            "C:\\Users\\a ",
            "DE89 ",
            "4111 ",
            "tel ",
            "sk-",
            "xoxb-",
            "hf_a1",
            "é@",
            "()",
        ),
    ],
)
def test_hostile_repetition_ends(unit: str) -> None:
    assert masked(unit * (60_000 // len(unit)))
