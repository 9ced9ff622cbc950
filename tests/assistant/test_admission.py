import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.admission import Admission, Ticket
from assistant.errors import QueueFull


def make(*, limit: int = 100, running: int = 1) -> Admission:
    return Admission(limit=limit, most_running=lambda: running)


async def test_replies_run_while_there_is_room_and_then_in_order() -> None:
    admission = make(running=2)
    tickets = [admission.enter("ann") for _ in range(4)]
    assert [ticket.is_waiting for ticket in tickets] == [False, False, True, True]
    start = asyncio.create_task(tickets[2].wait_to_start())
    await asyncio.sleep(0)
    assert not start.done()
    tickets[1].leave()
    await asyncio.wait_for(start, 20)
    assert tickets[3].is_waiting


async def test_a_later_owner_with_fewer_replies_runs_next() -> None:
    admission = make(running=2)
    crowd = [admission.enter("ann") for _ in range(10)]
    bob = admission.enter("bob")
    crowd[0].leave()
    assert not bob.is_waiting
    assert crowd[2].is_waiting


async def test_two_busy_owners_alternate() -> None:
    admission = make()
    first = admission.enter("ann")
    tickets = [admission.enter(owner) for owner in ("ann", "ann", "bob", "bob")]
    order = []
    running = first
    while any(ticket.is_waiting for ticket in tickets):
        running.leave()
        running = next(ticket for ticket in tickets if not ticket.is_waiting and ticket not in order)
        order.append(running)
    assert [ticket.owner for ticket in order] == ["ann", "bob", "ann", "bob"]


async def test_one_owner_gets_at_most_half_of_all_tickets_and_a_new_owner_always_one() -> None:
    admission = make(limit=16)
    for _ in range(8):
        admission.enter("ann")
    with pytest.raises(QueueFull):
        admission.enter("ann")
    for _ in range(4):
        admission.enter("bob")
    with pytest.raises(QueueFull):
        admission.enter("bob")
    admission.enter("cleo")


async def test_a_full_queue_says_when_to_try_again() -> None:
    admission = make(limit=2)
    admission.enter("ann")
    with pytest.raises(QueueFull, match=r"again in (a second|\d+ seconds)") as refused:
        admission.enter("ann")
    assert 1 <= refused.value.retry_after <= 60


async def test_a_waiting_reply_learns_its_position_until_it_runs() -> None:
    admission = make()
    tickets = [admission.enter("ann") for _ in range(4)]
    positions: list[int] = []

    async def listen() -> None:
        async for position in tickets[3].positions():
            positions.append(position)  # noqa: PERF401 (as they come)

    listening = asyncio.create_task(listen())
    for ticket in (tickets[2], tickets[0], tickets[1]):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ticket.leave()
    await asyncio.wait_for(listening, 20)
    assert positions == [2, 1, 0]


async def test_leaving_ends_the_wait_and_a_second_leave_does_nothing() -> None:
    admission = make()
    first, second = admission.enter("ann"), admission.enter("bob")
    second.leave()
    second.leave()
    await asyncio.wait_for(second.wait_to_start(), 20)
    first.leave()
    first.leave()
    assert not admission.enter("ann").is_waiting
    assert admission.enter("ann").is_waiting


@settings(max_examples=200, deadline=None)
@given(
    limit=st.integers(2, 12),
    running=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=60),
)
def test_as_many_replies_run_as_may_whoever_enters_and_leaves(
    limit: int, running: int, steps: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        admission = make(limit=limit, running=running)
        tickets: list[Ticket] = []
        for owner, number in steps:
            if number < 12:
                held = Counter(ticket.owner for ticket in tickets)[owner]
                try:
                    tickets.append(admission.enter(owner))
                except QueueFull:
                    assert held >= limit - len(tickets)
                else:
                    assert held < limit - (len(tickets) - 1)
            elif tickets:
                tickets.pop(number % len(tickets)).leave()
            running_now = sum(not ticket.is_waiting for ticket in tickets)
            assert running_now == min(running, len(tickets))

    asyncio.run(play())
