"""The doctor's findings, and how they are shown to people and to programs."""

from __future__ import annotations

import functools
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class CannotExamine(Exception):
    """The examination ends here. The text says why."""


class NoText(Exception):
    """A check needs a text, but the server sent none. The text of the exception says what it sent."""


class Status(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    MADE_UP = "made up for"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
    status: Status
    observation: str
    remedy: str = ""  # what the serving layer does about it, or what the operator has to do instead
    name: str = ""  # the check that found it


right = functools.partial(Finding, Status.RIGHT)
wrong = functools.partial(Finding, Status.WRONG)
made_up = functools.partial(Finding, Status.MADE_UP)
unknown = functools.partial(Finding, Status.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Report:
    url: str
    kind: str  # `openai` or `tgi`
    findings: Sequence[Finding]

    @property
    def is_usable(self) -> bool:
        return all(finding.status is not Status.WRONG for finding in self.findings)

    def table(self) -> str:
        rows = [f"{self.url}, examined by {'TGI' if self.kind == 'tgi' else 'OpenAI'}'s protocol", ""]
        for finding in self.findings:
            head = f"{finding.status:11}  {finding.name:19}  "
            indent = " " * len(head)
            rows += textwrap.wrap(finding.observation, 110, initial_indent=head, subsequent_indent=indent)
            rows += textwrap.wrap(
                finding.remedy, 110, initial_indent=f"{indent}-> ", subsequent_indent=f"{indent}   "
            )
        problems = sum(finding.status is Status.WRONG for finding in self.findings)
        rows += ["", f"{problems} wrong." if problems else "Nothing is wrong that we do not make up for."]
        return "\n".join(rows) + "\n"

    def as_json(self) -> str:
        findings = [
            {"name": f.name, "status": f.status, "seen": f.observation, "ours": f.remedy}
            for f in self.findings
        ]
        return json.dumps(
            {"url": self.url, "kind": self.kind, "usable": self.is_usable, "findings": findings},
            ensure_ascii=False,
            indent=2,
        )
