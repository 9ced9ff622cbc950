"""An upstream that a test can pause in the middle of its answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

from aiohttp import web

from tests.support.fake_upstream import DONE, FakeUpstream, Step, piece, usage

FIRST_HALF = """Use `with`, which closes the file, too.

## How it goes

```python
with open("notes.txt") as file:  # closed at the end
    for line in file:
        print(line)
```

| Way | Closes |
|---|---|
| with | yes |
| open alone | no |

- [x] tried
- not tried

The first half ends here. """
FIRST_WORDS, LAST_WORDS = "The first half ends here.", "Sentence 29 is the last one."
SECOND_HALF = "\n\n".join(f"Sentence {number} says what there is to say." for number in range(29)) + (
    f"\n\n{LAST_WORDS} [1]"
)
ANSWER = FIRST_HALF + SECOND_HALF


def words(text: str) -> list[bytes]:
    return [piece(word) for word in re.findall(r"\S+\s*", text)]


class Upstream(FakeUpstream):
    """Answers each question with `ANSWER`, word by word; while paused, only with its first half."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Event()
        self._gate.set()

    def pause(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.clear)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        end: list[Step] = [piece("", "stop"), usage(7, 100), DONE]
        self.answer(*words(FIRST_HALF), self._gate, *words(SECOND_HALF), *end)
        return await super()._complete(request)


@contextlib.contextmanager
def pausable_upstream() -> Iterator[Upstream]:
    """The upstream in its own thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    async def make() -> Upstream:
        return await Upstream().__aenter__()

    upstream = run(make())
    try:
        yield upstream
    finally:
        run(upstream.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
