"""The English in which programmers ask: stop words, stems, synonyms, and the correction of misspelt words.

The form of a word is its stem, or the first of its synonyms. Texts are compared by the forms of their words.
The phrases by which people ask for one API are in `vocabulary.toml`.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Collection, Iterator

WORD = re.compile(r"[^\W_]+(?:\+\+|#)?(?:['’][a-z]{1,2}\b)?")
SHORTEST_PART = 3  # letters of a part of a name in camel case
SHORTEST = 5  # letters of a word that is corrected
CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

# Words of asking, and words that any question on Python may have: they do not say what the question is about.
STOP_WORDS = frozenset(
    """
    a about actually after all also am an and any anybody anyone anything are as at available basically be
    because been before being best better between but by came can cannot cant come could did do does doing
    don done dont each easiest easily easy either else especially etc even ever every everything explain
    explained explanation few for from get gets getting give given gives go going good got had happen
    happens has have having he hello help helps hey hi his how however i if im in instead into is isn it its
    ive just kind know lang let like lot made make makes making many may maybe me mean meaning means might
    more most much must my myself need needed needs no not now of off often ok okay on once one ones only or
    other others our out own particular please possible preferably properly purpose python python2 python3
    pythonic question quick quickly quickest really regarding right same say see shall she should show
    simple simplest simply snippet so some somebody somehow someone something standard stdlib still stuff
    such supposed sure take takes tell than thank thanks that the their them then there these they thing
    things this those through to too tried try trying under up us use used useful uses using usage usually
    very via want wants was way ways we well were what whats when where whether which while who whose why
    will wish with within without wonder wondering work working works would wouldn write written yes yet you
    your built builtin builtins inbuilt available proper correct correctly exactly doesn didn won describe
    description documentation doc docs example examples sample signature difference differences diference
    differ differs different versus vs compared two three four five six seven eight nine ten
    """.split()  # noqa: SIM905 - a table to read
)

# Words that say what kind of API a name is, not which one.
KIND_WORDS = frozenset(
    """
    function functions method methods module modules class classes package packages library libraries
    keyword keywords statement statements builtin operator operators decorator decorators constant attribute
    attributes object objects command type types exception exceptions call code
    """.split()  # noqa: SIM905
)

# Other languages and programs that programmers ask about, where the name has no other meaning in English.
PRODUCTS = frozenset(
    """
    angular ansible apache apt aws azure bash blender brew c# c++ clojure cmake cobol cpp crontab csharp css
    dart debian docker dockerfile ecmascript elasticsearch elixir emacs erlang eslint excel fish flexbox
    fortran gcc gcp gimp git github gitlab golang goroutine gradle graphql groovy haskell helm heroku html5
    ios iphone java javascript jenkins jquery julia kafka kotlin kubectl kubernetes laravel latex linq lua
    macos makefile matlab maven mongo mongodb mysql netlify nextjs nginx nodejs npm npx numpad objective ocaml
    oracle perl photoshop php postgres postgresql powerpoint powershell prolog pnpm rabbitmq rails react
    redis redux ruby rust rustc sass scala scss sed shopify solidity springboot sqlserver stackoverflow
    svelte svn swift swiftui systemd systemctl tailwind terraform tmux typescript ubuntu unity unreal vagrant
    vim vlookup vscode vue webpack wordpress yarn zig zsh
    """.split()  # noqa: SIM905
)
# Libraries for Python outside the standard library, and words for what they offer.
LIBRARIES = frozenset(
    """
    airflow alembic beautifulsoup boto boto3 bs4 celery dataframe dataframes django fastapi flask gunicorn
    jax jinja jupyter keras langchain matplotlib ndarray nltk numba numpy opencv openpyxl pandas pillow plotly
    polars poetry psycopg2 pydantic pygame pyqt pyside pyspark pytest pytorch scikit scipy scrapy seaborn
    selenium sklearn spacy sqlalchemy streamlit sympy tensorflow tox uvicorn xgboost
    """.split()  # noqa: SIM905
)

# How code usually names packages and their main classes.
IMPORTED_AS = {
    "np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "sa": "sqlalchemy", "tf": "tensorflow",
    "sns": "seaborn", "nx": "networkx", "df": "pandas.DataFrame", "ax": "matplotlib.axes.Axes",
    "ndarray": "numpy.ndarray", "dataframe": "pandas.DataFrame", "dataframes": "pandas.DataFrame",
}  # fmt: skip

# Groups of words that mean the same, or are forms of one word that `stem` does not bring together.
_SYNONYMS = """
    directory folder dir subdirectory subfolder; remove delete erase rm unlink discard drop del; create
    make generate build; string text str; integer int whole; number numeric num; dictionary dict mapping
    hashmap; list array; path filepath filename pathname; character char letter; argument parameter
    param arg option; convert conversion turn transform cast change coerce; parse interpret; iterate
    loop traverse; execute run launch start invoke; random randomness; sort order; find search locate
    lookup; compare comparison; concatenate concat join combine merge; split separate divide tokenize;
    duplicate deduplicate repeated unique distinct; environment env; variable var; regex regexp;
    multiply multiplication product; sum total addition; maximum max largest biggest greatest highest;
    minimum min smallest lowest least; average mean; length len size count; uppercase upper capital;
    lowercase lower; exception error; fetch download retrieve; url uri link; current present; thread
    multithreading; process multiprocessing subprocess; wait sleep pause delay;  print
    display output; whitespace spaces blank; check test determine verify; exist existence; temporary
    temp tmp; hash digest checksum; sequence iterable; element item entry; recursive recursion nested;
    commandline cli terminal shell; reverse backwards; cache memoize memoization memoise; asynchronous
    async coroutine asyncio; property attribute; inherit inheritance subclass; anonymous lambda; copy
    clone; replace substitute; insert put; equal equality; absolute full; cpu processor core; ip
    address; byte bytes; binary bin; hexadecimal hex; octal oct; fraction rational; date day; weekday
    week; zip archive; color colour; timeout deadline; limit cap; expire expiry expiration; authenticate
    auth login signin; authorization authorisation authorize; password passphrase; user account; email
    mail; image picture photo; grayscale greyscale; cookie cookies; response reply; endpoint route;
    serialize serialise serialization serialisation dump marshal; deserialize deserialise unmarshal;
    database db; row record; relationship relation; setting configuration config configure preferences;
    optional nullable; missing nan null absent na; deprecate obsolete; mock stub patch; parametrize
    parameterize parametrise parametrization; skip ignore omit; command subcommand; prompt ask; progress
    progressbar; plugin extension; hook callback; event signal; task job; schedule periodic cron;
    background daemon; certificate cert; secure security safe safety; install installation; version
    release; upgrade update; building compile; deploy deployment; container docker; repository repo;
    plot chart graph; axis axes; reduce aggregate; override overwrite; annotation typehint; enum
    enumeration; interrupt cancel cancelling cancellation abort; begin starting; stop end terminate
    shutdown; enable activate; disable deactivate; show view; hide hidden; choose select pick choice;
    fast faster speed performance; slow slower slowness; memory ram; width wide; height tall; title
    heading; links hyperlink; page paginate; translate localization localisation i18n; language locale;
    timezone tz; postgres postgresql; retry attempt
"""

_IRREGULAR = {
    "ran": "run", "wrote": "write", "found": "find", "built": "build", "sent": "send", "kept": "keep",
    "left": "left", "data": "data", "indices": "index", "matrices": "matrix", "children": "child",
    "chose": "choose", "chosen": "choose", "caught": "catch", "thrown": "throw", "broken": "break",
    "hidden": "hide", "shown": "show", "began": "begin", "split": "split", "series": "series",
    "used": "use", "string": "string", "during": "during", "nothing": "nothing", "bytes": "byte",
    "ordinal": "ordinal", "analyse": "analyz", "processes": "process", "threads": "thread",
}  # fmt: skip
_VOWEL = re.compile(r"[aeiouy]")


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A word without its endings: `removing`, `removed` and `removes` all become `remov`."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3:
        return word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and _VOWEL.search(root):
            double = root[-1] == root[-2] and root[-1] not in "lsz"
            word = root[:-1] if double else root
            break
    if word.endswith("ly") and len(word) > 5:
        word = word[:-2]
    for ending, kept in (("ation", "at"), ("ator", "at"), ("tion", "t"), ("ssion", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            word = word.removesuffix(ending) + kept
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@functools.lru_cache(maxsize=65_536)
def form(word: str) -> str:
    """What a word is compared by: its stem, or the stem of the first of its synonyms."""
    word = word.lower()
    return _FORMS.get(word) or _FORMS.get(stem(word)) or stem(word)


def synonyms(word: str) -> tuple[str, ...]:
    """The word itself and then its synonyms, as search terms for the full-text index."""
    word = word.lower()
    return (word, *(other for other in _SYNONYMS_OF.get(form(word), ()) if other != word))


def corrected(word: str, known: Collection[str]) -> str:
    """The known word that a misspelt one means, or the word itself if no known one is like it. Corrects one
    wrong letter in a word of five letters or more, two in a word of eight or more, and never the first."""
    if len(word) < SHORTEST or not (word.isascii() and word.isalpha()) or word in known or is_word(word):
        return word
    most = 2 if len(word) >= 8 else 1
    near = [
        (_edits(word, other, most), abs(len(word) - len(other)), other)
        for other in itertools.chain(known, _FORMS)
        if other[0] == word[0] and len(other) >= SHORTEST and abs(len(other) - len(word)) <= most
    ]
    edits, _, best = min(near, default=(most + 1, 0, word))
    # A short word with another letter is another word ("swift", "shift"); a missing or extra one is a typo.
    if edits > most or (len(word) == SHORTEST and (len(best) == len(word) or best[-1] != word[-1])):
        return word
    return best


def is_word(word: str) -> bool:
    """Whether this module has the word, so that it is not misspelt."""
    return (
        word in STOP_WORDS or word in _FORMS or stem(word) in _FORMS or word in PRODUCTS or word in LIBRARIES
    )


def _edits(one: str, other: str, most: int) -> int:
    """How many letters are missing, extra, wrong or swapped with the next; at most `most` + 1."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        before, last, row = row, before, [i + 1]
        for j, wanted in enumerate(other):
            cost = min(before[j] + (letter != wanted), before[j + 1] + 1, row[j] + 1)
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                cost = min(cost, last[j - 1] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]


def split_words(text: str) -> Iterator[str]:
    """The words of a text. A name in camel case is several (`ThreadPool` is two), unless parts of it are too
    short to be words: `SQLite` is one."""
    for word in WORD.findall(text):
        if word.islower() and word.isalpha():  # nearly always
            yield word
        else:
            word = re.split("['’]", word, maxsplit=1)[0]
            parts = CAMEL_CASE.split(word)
            yield from parts if min(map(len, parts)) >= SHORTEST_PART else (word,)


def forms(text: str) -> set[str]:
    """The forms of the words of a text."""
    return set(map(form, set(split_words(" ".join(set(WORD.findall(text)))))))


def content_words(text: str) -> Iterator[str]:
    """The words of a text that say what it is about, in lower case, in order, with repetitions."""
    shouts = text.isupper()
    for word in split_words(text):
        lower = word.lower()
        is_stop = lower in STOP_WORDS and (shouts or len(word) < 3 or not word.isupper())  # GET is no "get"
        is_number = lower.isdigit() and len(lower) != 3  # 404 says what is meant
        if not is_stop and not is_number and (len(lower) > 1 or lower in "crv"):
            yield lower


def _synonym_tables() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    forms: dict[str, str] = {}
    synonyms: dict[str, tuple[str, ...]] = {}
    for group in map(str.split, _SYNONYMS.split(";")):
        first = stem(group[0])
        synonyms[first] = tuple(group)
        for word in group:
            forms.setdefault(word, first)
            forms.setdefault(stem(word), first)
    return forms, synonyms


_FORMS, _SYNONYMS_OF = _synonym_tables()
