"""Reads an error that somebody pastes: a traceback of Python, IPython or pytest, or the message alone,
anywhere in a question. Any text is read in bounded time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

LONGEST = 20_000  # characters that are read, most of them at the end, where the error is
LONGEST_LINE = 1_000
LONGEST_MESSAGE = 2_000
MOST_LINES = 12  # of a message, or of code below a frame


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in a traceback. `marked` is the part of the code above the marks `^^^^` or `~~^~~`. With
    `is_operator`, these say that an operator or an index failed, and no call."""

    file: str
    line: int
    function: str
    code: str = ""
    marked: str = ""
    is_operator: bool = False

    @property
    def inside(self) -> str | None:
        """The file within the library or a package ("json/decoder.py"); None for a person's own file."""
        file = self.file.replace("\\", "/")
        found = _LIBRARY.search(file)
        return file[found.end() :] if found else "" if file.startswith("<frozen") else None


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error as it was pasted, the outermost frame first. `exception` is empty if no class is named."""

    exception: str
    message: str
    frames: tuple[Frame, ...] = ()
    cause: ErrorReport | None = None

    @property
    def last(self) -> str:
        return self.exception.rpartition(".")[2]

    @property
    def own(self) -> Frame | None:
        """The last line of the person's own code, rather in a file than in a text that was executed."""
        own = [frame for frame in self.frames if frame.inside is None and frame.code]
        return max(reversed(own), key=lambda frame: frame.file[:2] not in ("<s", "<t")) if own else None

    @property
    def below(self) -> tuple[Frame, ...]:
        """The frames of libraries and packages after the person's own line."""
        start = self.frames.index(self.own) + 1 if self.own else 0
        return tuple(frame for frame in self.frames[start:] if frame.inside)


_LIBRARY = re.compile(r".*(?:(?:site|dist)-packages|/lib(?:64)?/python\d?(?:\.\d+)?t?|/Lib)/")
_CHAINED = re.compile(r"direct cause of the following exc|another exception occurred:")
_BEGINS = "Traceback (most recent call last)"
_FRAMES = (
    re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d{1,9})(?:, in (?P<function>\S+) *(?P<code>.*))?'),
    re.compile(r"^(?:File )?(?P<file>(?:~?/|[A-Z]:\\)[^:]+):(?P<line>\d{1,9}), in (?P<function>[\w.<>]+)"),
    re.compile(r"^(?P<file>(?:~?/|<ipython-)[^:>]*>?) in (?P<function>[\w.<>]+)"),
    re.compile(
        r"^(?P<file>(?:Cell|Input) In ?\[\d+\])(?:, line (?P<line>\d{1,9}))?(?:,? in (?P<function>\S+))?"
    ),
    re.compile(r"^(?P<file>[^\s:]+\.py):(?P<line>\d{1,9}): (?:in (?P<function>\S+)|(?P<raised>\w+))?$"),
    re.compile(r"(?P<file>[^\s:]+\.py):(?P<line>\d{1,9}): (?=[A-Z]\w*: )"),
)
_ARROW = re.compile(r"^-+> ?(?P<line>\d{1,9}) ?(?P<code>.*)")
_ERROR = re.compile(
    r"(?:^|(?<=[\s:|>`'\"(]))(?P<exception>(?:[A-Za-z_]\w{0,80}\.){0,8}[A-Za-z_]\w{0,80})"
    r"(?::\s+(?P<message>\S.*)|:?\s*$)"
)
_CLASS = re.compile(r"_?[A-Z]\w*(?:Error|Exception|Warning|Exit|Interrupt|Iteration|Group)$")
_LOOSE_CLASS = re.compile(r"(?i:\w*(?:error|exception|warning))$|[A-Z]\w*$")  # where only a class can stand
_OF_PACKAGE = re.compile(r"\.(?:exc|exceptions?|errors?)\.|^(?:socket|struct|re|zlib|binascii)\.")
_PLACE = re.compile(r"\.py:\d{1,9}: $")  # before the class of a warning
_WRAPPED = re.compile(r"^\((?P<cause>[\w.]+)\) (?P<message>.*)")
# JavaScript and the JVM have errors with the same names.
_FOREIGN = re.compile(
    r"(?m)^\s+at .+[:(]\d+|\bat [\w.$<>]+ ?\([^\s)]+:\d+|propert\w+ of undef|is not a function\b"
)
_OF_PROGRAM = re.compile(
    r"(?m)^(?:[\w./-]{1,200}: )?(?:error|fatal|panic|ERROR|FATAL|Error)(?:\[\w+\])?: +(?P<message>\S.{8,})$"
)


def read(text: str) -> ErrorReport | None:
    """The error in a text, the last one if several follow from each other; None if it has none."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 4]}\n{text[-LONGEST * 3 // 4 :]}"
    text = re.sub(r"\x1b\[[\d;]*m|\r", "", text)
    if f"{_BEGINS}: File" in text:  # its lines were joined
        text = re.sub(r'(?<=\S) +(?=File "[^"\n]{1,500}", line \d)', "\n", text)
    if report := _last_error(text):
        if _FOREIGN.search(text) and not report.frames:
            report = replace(report, exception="")
        if wrapped := _WRAPPED.match(report.message):  # "(sqlite3.OperationalError) no such table"
            report = replace(report, cause=ErrorReport(wrapped["cause"], wrapped["message"]))
        return report
    found = _OF_PROGRAM.search(text)
    return ErrorReport("", found["message"][:LONGEST_LINE]) if found else None


def _last_error(text: str) -> ErrorReport | None:
    of_pytest = re.search(r"(?m)^E {2,}(?=\S)", text)
    prefix = of_pytest[0] if of_pytest else "E   "
    quoted = [line[:LONGEST_LINE] for line in text.split("\n")]
    lines = [line.removeprefix(prefix) for line in quoted]
    last: ErrorReport | None = None
    frames: list[Frame] = []
    is_chained = False
    for at, line in enumerate(lines):
        if _CHAINED.search(line):
            is_chained, frames = True, []
        elif _BEGINS in line:
            frames = []
        elif found := next(filter(None, (pattern.search(line) for pattern in _FRAMES)), None):
            frame = _frame(found, lines, at)
            raised = found.groupdict().get("raised")
            if raised and last and last.last == raised:  # pytest names the place after the error
                last = replace(last, frames=(*last.frames, frame))
            elif raised:  # a failed `assert`
                message = " ".join(
                    line.removeprefix(prefix) for line in quoted[:at] if line.startswith(prefix)
                )
                last = ErrorReport(raised, message[:LONGEST_MESSAGE], (*frames, frame))
            else:
                frames.append(frame)
        if at and line[:4].isspace() and _FRAMES[0].search(lines[at - 1]):
            continue  # the code of the frame, which may look like a class alone
        is_inside = bool(frames) or "".join(lines[at + 1 : at + 2]).startswith("    ")
        if (found := error_in(line, in_traceback=is_inside)) and not _FRAMES[4].search(line):
            if (
                last
                and last.frames
                and not is_chained
                and not frames
                and found["exception"].endswith("Warning")
            ):
                continue  # what is warned of after an error follows from it
            message = _message(found, lines, at)
            last = ErrorReport(found["exception"], message, tuple(frames), last if is_chained else None)
            is_chained, frames = False, []
    return last


def error_in(line: str, *, in_traceback: bool) -> re.Match[str] | None:
    """The class and message in a line; outside of a traceback only where both are certain."""
    for found in _ERROR.finditer(line):
        name, last = found["exception"], found["exception"].rpartition(".")[2]
        is_warning = _PLACE.search(line[: found.start()]) is not None
        is_alone = in_traceback and not line[: found.start()].strip(" |>+-")
        is_of_package = is_warning or _OF_PACKAGE.search(name)
        is_sure = _CLASS.match(last) or (is_of_package and _LOOSE_CLASS.match(last))
        if (found["message"] and is_sure) or (is_alone and _LOOSE_CLASS.match(last)):
            return found
    return None


def _frame(found: re.Match[str], lines: Sequence[str], at: int) -> Frame:
    """The frame with its code, which stands below it; for pytest above, after `>`."""
    groups, margin = found.groupdict(), found.start()
    number, code, marked = int(groups.get("line") or 0), groups.get("code") or "", ""
    is_operator = False
    if (error := error_in(code, in_traceback=False)) is not None:
        code = code[: error.start()]
    if "raised" in groups and not groups["function"]:
        above = [line[1:].strip() for line in lines[max(0, at - 40) : at] if line.startswith(">  ")]
        return Frame(groups["file"], number, "", above[-1] if above else "")
    kept: list[str] = []
    for line in lines[at + 1 : at + 1 + MOST_LINES] if not code else ():
        if arrow := _ARROW.match(line):
            number, kept = int(arrow["line"]), [arrow["code"]]
            break
        if (
            not line.strip()
            or any(pattern.search(line) for pattern in _FRAMES)
            or error_in(line, in_traceback=False)
        ):
            break
        if re.fullmatch(r"[\s|~^]+", line):
            span, at_fault = re.search(r"[~^]+", line), re.search(r"\^", line)
            if span and at_fault and kept and not marked:
                marked = kept[-1][span.start() : span.end()]
                is_operator = "~" in span[0] and kept[-1][at_fault.start() : at_fault.end()] != "("
        elif not kept or line[margin : margin + 4].isspace():  # a statement may have several lines
            kept.append(line)
        else:
            break
    code = code or "\n".join(
        line[margin:].strip() if line[:margin].strip() else line.strip() for line in kept
    )
    function = (groups.get("function") or "").rpartition(".")[2]
    return Frame(groups["file"], number, function, code.strip(), marked.strip(), is_operator)


def _message(found: re.Match[str], lines: Sequence[str], at: int) -> str:
    """The message with its further lines: those that are indented or in brackets."""
    message = found["message"] or ""
    before = found.string[found.start() - 1 : found.start()]
    if before and before in "`'\"" and before in message:
        message = message[: message.rfind(before)]
    kept = [message.rstrip()]
    if found["exception"].endswith("Warning") or _PLACE.search(found.string[: found.start()]):  # code follows
        return message
    for number in range(at + 1, min(at + MOST_LINES, len(lines))):
        line, following = lines[number], "".join(lines[number + 1 : number + 2])
        continues = line[:1] in " \t[(" or (number == at + 1 and following.startswith("  "))
        if (
            not continues
            or re.match(r"\s+at |[\s|+-]*$", line)
            or any(pattern.search(line) for pattern in _FRAMES)
        ):
            break
        kept.append(line.strip())
    return "\n".join(kept)[:LONGEST_MESSAGE]
