from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engines.llama_cpp import Slots
from tests.serving.conftest import PATIENCE


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 3), st.booleans()), max_size=30), st.integers(1, 4)
)
def test_no_more_is_taken_than_there_is_and_all_of_it_comes_back(
    takers: list[tuple[int, int, bool]], count: int
) -> None:
    held: list[int] = []

    async def take(slots: Slots, tokens: int, steps: int) -> None:
        async with slots.take(tokens):
            held.append(tokens)
            assert sum(held) <= 100
            assert len(held) <= count
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                held.remove(tokens)

    async def main() -> None:
        slots = Slots(count, 100)
        tasks = []
        for tokens, steps, is_cancelled in takers:
            tasks.append(asyncio.create_task(take(slots, tokens, steps)))
            if is_cancelled:
                await asyncio.sleep(0)
                tasks[len(tasks) // 2].cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks, return_exceptions=True)
            assert slots.waiting == 0
            await asyncio.gather(*(take(slots, 100 // count, 1) for _ in range(count)))

    asyncio.run(main())
