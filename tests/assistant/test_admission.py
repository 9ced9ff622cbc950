import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.admission import Admission, Place
from assistant.errors import QueueFull


def make(*, limit: int = 100, running: int = 1) -> Admission:
    return Admission(limit=limit, running=lambda: running)


async def test_turns_are_given_as_long_as_there_are_any_then_in_order() -> None:
    admission = make(running=2)
    places = [admission.enter("ann") for _ in range(4)]
    assert [place.is_waiting for place in places] == [False, False, True, True]
    turn = asyncio.create_task(places[2].turn())
    await asyncio.sleep(0)
    assert not turn.done()
    places[1].leave()
    await asyncio.wait_for(turn, 20)
    assert places[3].is_waiting


async def test_who_comes_later_and_asks_less_has_the_next_turn() -> None:
    admission = make(running=2)
    crowd = [admission.enter("ann") for _ in range(10)]
    bob = admission.enter("bob")
    crowd[0].leave()
    assert not bob.is_waiting
    assert crowd[2].is_waiting


async def test_two_who_ask_much_have_turns_alternately() -> None:
    admission = make()
    first = admission.enter("ann")
    places = [admission.enter(owner) for owner in ("ann", "ann", "bob", "bob")]
    order = []
    running = first
    while any(place.is_waiting for place in places):
        running.leave()
        running = next(place for place in places if not place.is_waiting and place not in order)
        order.append(running)
    assert [place.owner for place in order] == ["ann", "bob", "ann", "bob"]


async def test_one_alone_gets_half_of_all_places_and_somebody_new_finds_room() -> None:
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


async def test_a_full_house_says_when_to_come_back() -> None:
    admission = make(limit=2)
    admission.enter("ann")
    with pytest.raises(QueueFull, match=r"again in (a second|\d+ seconds)") as refused:
        admission.enter("ann")
    assert 1 <= refused.value.retry_after <= 60


async def test_who_waits_is_told_how_many_come_first_until_the_turn_has_come() -> None:
    admission = make()
    places = [admission.enter("ann") for _ in range(4)]
    told: list[int] = []

    async def listen() -> None:
        async for before in places[3].waits():
            told.append(before)  # noqa: PERF401 (in their order, while others come and go)

    listening = asyncio.create_task(listen())
    for place in (places[2], places[0], places[1]):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        place.leave()
    await asyncio.wait_for(listening, 20)
    assert told == [2, 1, 0]


async def test_leaving_while_waiting_ends_the_wait_and_leaving_twice_is_once() -> None:
    admission = make()
    first, second = admission.enter("ann"), admission.enter("bob")
    second.leave()
    second.leave()
    await asyncio.wait_for(second.turn(), 20)
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
def test_whoever_comes_and_goes_no_turn_is_lost_or_given_twice(
    limit: int, running: int, steps: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        admission = make(limit=limit, running=running)
        places: list[Place] = []
        for owner, number in steps:
            if number < 12:
                held = Counter(place.owner for place in places)[owner]
                try:
                    places.append(admission.enter(owner))
                except QueueFull:
                    assert held >= limit - len(places)
                else:
                    assert held < limit - (len(places) - 1)
            elif places:
                places.pop(number % len(places)).leave()
            having = sum(not place.is_waiting for place in places)
            assert having == min(running, len(places))

    asyncio.run(play())
