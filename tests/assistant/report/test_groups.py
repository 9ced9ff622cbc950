"""Which questions are grouped as the same."""

import random

import pytest

from assistant.report import groups
from assistant.report.groups import MOST_COMPARED, grouped

# Each line is one group.
GROUPS = """
How do I install it on Windows? | installing on windows | Windows installation fails | install on Windows 11
How can I export my data as CSV? | export to csv | CSV exports: how? | a way to get data exported in csv
How do I rotate the API key? | rotating api keys | change my API key
Where do I find the API reference?
Does it support dark mode? | dark mode | switch to the dark theme mode
Which Python versions are supported?
What is the maximum upload size? | upload size limit | largest file that I can upload
SSO with SAML | How do I set up SAML SSO?
How do I configure logging? | set the log level
How do I delete my account? | remove account | deleting a user account
delete a file
connection timeout when deploying | deployment hangs at connecting
How do I install it on macOS?
怎么安装 | 怎么安装
hello
??? | ???
"""


@pytest.mark.parametrize("seed", range(5))
def test_paraphrases_are_together_and_other_questions_apart_in_any_order(seed: int) -> None:
    table = [line.split(" | ") for line in GROUPS.strip().split("\n")]
    asked = [question for line in table for question in line]
    random.Random(seed).shuffle(asked)
    made = grouped(asked)
    assert sorted(sorted(asked[place] for place in group) for group in made) == sorted(map(sorted, table))
    assert [group[0] for group in made] == sorted(group[0] for group in made)
    assert [group for group in made if group != sorted(group)] == []


def test_texts_without_words_are_grouped_by_what_they_are() -> None:
    assert grouped([]) == []
    assert grouped(["", "red green", " ", "…", "Green red?", "…"]) == [[0, 2], [1, 4], [3, 5]]


def test_a_text_meets_so_many_others_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    met = 0

    def counted(vector: dict[str, float], meetings: dict[str, list[tuple[int, float]]]) -> list[int]:
        nonlocal met
        before = {word: list(meetings[word]) for word in vector}
        for word in vector:
            meetings[word] = _Counted(before[word])
        found = alike(vector, meetings)
        met += sum(meetings[word].given for word in vector)  # type: ignore[attr-defined]
        meetings.update(before)
        return found

    alike = groups._alike
    monkeypatch.setattr(groups, "_alike", counted)
    monkeypatch.setattr(groups, "MOST_COMPARED", 50)
    chance = random.Random(1)
    common = " ".join(f"common{number}x" for number in range(8))
    texts = [f"{common} {' '.join(f'u{chance.randrange(10**9)}x' for _ in range(16))}" for _ in range(300)]
    assert len(grouped(texts)) == 300
    assert 10_000 < met <= 50 * 300
    assert MOST_COMPARED <= 1000


class _Counted(list[tuple[int, float]]):
    """Counts how many of its items were handed out."""

    given = 0

    def __getitem__(self, places: slice) -> list[tuple[int, float]]:  # type: ignore[override]
        found = super().__getitem__(places)
        self.given += len(found)
        return found
