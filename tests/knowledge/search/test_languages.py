import itertools
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.knowledge.search import languages
from assistant.knowledge.search.languages import in_english
from assistant.knowledge.search.question import QuestionType, parse_question
from assistant.knowledge.search.small_talk import may_need_documentation

ROOT = Path(__file__).parents[3]
ENGLISH = [
    ROOT / "tests" / "knowledge" / "search" / "questions.toml",
    *(
        ROOT / "benchmarks" / "questions" / f"{kind}.toml"
        for kind in ("packages", "library", "folders", "refusals", "errors")
    ),
]


@pytest.mark.parametrize(
    ("text", "english"),
    [
        # German: separable verbs, compounds, umlauts in two spellings or missing
        ("Wie kann ich eine Liste nach einem Schlüssel sortieren?", "how to list key sort ?"),
        ("Textdatei zeilenweise einlesen", "text file line by line read"),
        ("Wie lade ich eine Datei herunter?", "how to load file download ?"),
        ("Umgebungsvariablen loeschen", "environment variable delete"),
        ("wie prufe ich ob ein ordner existiert", "how to check directory exist"),
        ("Zahlen zählen", "number count"),
        ("Was ist der Unterschied zwischen append und extend?",
         "what is difference between append and extend ?"),
        ("Was macht enumerate?", "what is enumerate ?"),
        # French
        ("comment lire un fichier ligne par ligne ?", "how to read file line by line ?"),
        ("chiffrer le mot de passe de l’utilisateur", "encrypt password user"),
        ("creer une base de donnees", "create database"),
        ("Qu'est-ce qu'un décorateur ?", "what is decorator ?"),
        # Spanish
        ("¿Cómo convierto una cadena en una fecha?", "how to convert string date ?"),
        ("ordenar lista", "sort list"),
        ("leer argumentos de la línea de comandos", "read argument command line"),
        # Portuguese
        ("Como usar expressões regulares?", "how to use regular expression ?"),
        ("ler o valor de uma variável de ambiente", "read value environment variable"),
        ("remover espaços em branco de uma string", "remove whitespace string"),
        # Chinese
        ("如何判断文件是否存在", "how to check file check exist"),
        ("list 和 tuple 有什么区别?", "what is difference between list and tuple ?"),
        ("讀取檔案的每一行", "read file line"),
        ("删除重复元素", "delete duplicate element"),
        # Japanese
        ("ファイルを一行ずつ読み込む方法", "how to file line by line read"),
        ("リストとタプルの違いは?", "difference between list and tuple ?"),
        ("文字列を数値に変換したい", "string number convert"),
    ],
)  # fmt: skip
def test_the_words_of_programming_are_translated(text, english):
    assert in_english(text) == english


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("Was macht os.path.join mit einem absoluten Pfad?",
         "what is os.path.join with absolute path ?"),
        ("Wie lese ich eine CSV-Datei mit pandas?", "how to read CSV file with pandas, ?"),
        ("Comment utiliser `asyncio.gather` ?", "how to use `asyncio.gather` ?"),
        ("Wozu dient die Methode datei.lese()?", "what is method datei.lese() ?"),
        ("用 requests 发送 POST 请求", "with requests, send POST request"),
        ("requestsでJSONを送信するには?", "how to with requests, JSON send ?"),
        ("Warum ist x_datei hier 'datei nicht gefunden'?", "why x_datei 'datei nicht gefunden' ?"),
        ("Wie teste ich FastAPI 0.115?", "how to test FastAPI 0.115 ?"),
    ],
)  # fmt: skip
def test_names_and_code_stay(text, english):
    assert in_english(text) == english


def test_blocks_of_code_and_tracebacks_stay_with_their_lines():
    code = "```python\nfor datei in liste:\n    print(datei)\n```"
    assert code in in_english(f"Warum gibt das nichts aus?\n{code}\nDer Ordner ist nicht leer.")
    traceback = (
        'Traceback (most recent call last):\n  File "datei.py", line 1, in <module>\n    liste.lese(datei)\n'
        "AttributeError: 'list' object has no attribute 'lese'"
    )
    assert traceback in in_english(f"Was bedeutet dieser Fehler in meinem Programm?\n{traceback}")


@pytest.mark.parametrize("file", ENGLISH, ids=lambda file: file.name)
def test_english_texts_stay_as_they_are(file):
    texts = [entry["text"] for entry in tomllib.loads(file.read_text(encoding="utf-8"))["question"]]
    assert [text for text in texts if in_english(text) != text] == []


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "?", "pandas", "die", "comment", "What does os.path.join do with 'datei'?",
        "How do I decode 日本語 in a file?", "rename the column 名前 of my table", "des encryption",
        "Why does café fail to encode?", "Schwarzwälder", "list comprehension", "main parser class",
        "La Paz", "configure encoder", "tuple", "El Niño data in xarray",
    ],
)  # fmt: skip
def test_a_text_that_does_not_tell_its_language_is_english(text):
    assert in_english(text) == text


@pytest.mark.parametrize(
    ("text", "question_type"),
    [
        ("Wie lösche ich eine Datei?", QuestionType.TASK),
        ("Qu'est-ce que zip ?", QuestionType.LOOKUP),
        ("¿Cuál es la diferencia entre append y extend?", QuestionType.DIFFERENCE),
        ("append 和 extend 的区别", QuestionType.DIFFERENCE),
        ("appendとextendの違い", QuestionType.DIFFERENCE),
        ("O que significa KeyError?", QuestionType.ERROR),
    ],
)
def test_a_question_keeps_its_type(text, question_type):
    assert parse_question(in_english(text)).type is question_type


@pytest.mark.parametrize("text", ["Danke!", "merci beaucoup", "gracias", "obrigado!", "谢谢", "ありがとう"])
def test_thanks_are_small_talk(text):
    assert not may_need_documentation(in_english(text))


def test_a_follow_up_question_keeps_what_makes_it_one():
    assert parse_question(in_english("und umgekehrt?")).asks_opposite
    assert parse_question(in_english("Und mit pathlib?")).is_follow_up


def test_unknown_words_stay_so_that_a_foreign_topic_is_not_answered():
    assert "Spaghetti" in in_english("Wie koche ich Spaghetti?")
    assert "恐龙" in in_english("恐龙为什么灭绝")


@given(st.text())
def test_any_text_is_accepted(text):
    assert isinstance(in_english(text), str)


@pytest.mark.parametrize(
    "part",
    [
        "ä", "datei", "datei ", "文", "文件", "ファ", "`", "```", "'", '"a', "(", ".", "a.", "_", "_(", "A",
        "Aa", "\n", "\n ", "\n>>>", "Error:", "aError", "de la ", "ﷺ", "ß", "\u0301", "\0", "\ud800", "-",
        "a(", "用x",
    ],
)  # fmt: skip
def test_only_the_beginning_and_the_end_of_a_long_text_are_read(part):
    assert len(in_english("Wie lösche ich eine Datei? " + part * 100_000)) <= max(
        3 * languages.LONGEST, 27 + len(part) * 100_000
    )


def test_each_line_of_the_dictionary_has_a_cell_for_each_language():
    lines = languages.FILE.read_text(encoding="utf-8").splitlines()
    entries = [line.split(" | ") for line in lines if not line.startswith(("#", "="))]
    assert [entry for entry in entries if len(entry) != 1 + languages.JAPANESE or not all(entry)] == []
    for column in range(languages.GERMAN, languages.CHINESE):  # longer words would never be found
        words = itertools.chain.from_iterable(entry[column].split() for entry in entries)
        assert [word for word in words if len(word) > languages.LONGEST_WORD] == []
