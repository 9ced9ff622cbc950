import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import LimitReached
from assistant.limits import Limit, Limits, Use


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


def use(name: str = "ann", most: int = 3, seconds: float = 60.0, amount: float = 1.0) -> Use:
    return Use(name, Limit(most, seconds), "You have asked much", amount)


def is_taken(limits: Limits, *uses: Use) -> bool:
    try:
        limits.take(uses)
    except LimitReached:
        return False
    return True


@given(most=st.integers(1, 20), seconds=st.floats(1, 1e5), waits=st.lists(st.floats(0, 1e4), max_size=60))
def test_never_more_than_a_full_bucket_and_what_has_leaked(
    most: int, seconds: float, waits: list[float]
) -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    start = clock.time
    for taken, wait in enumerate(waits, start=1):
        clock.time += wait
        if not is_taken(limits, one := use(most=most, seconds=seconds)):
            with pytest.raises(LimitReached) as refused:
                limits.take([one])
            assert 1 <= refused.value.retry_after <= seconds / most + 1
            clock.time += refused.value.retry_after
            limits.take([one])  # who comes back then may ask
        assert taken <= most + (clock.time - start) * most / seconds + 1e-6
    clock.time += seconds
    assert all(is_taken(limits, use(most=most, seconds=seconds)) for _ in range(most))


def test_names_do_not_share_a_limit_and_a_refusal_counts_nothing() -> None:
    limits = Limits(clock=Clock())
    assert all(is_taken(limits, use("ann"), use("all", 9)) for _ in range(3))
    assert not any(is_taken(limits, use("ann"), use("all", 9)) for _ in range(50))
    assert all(is_taken(limits, use("bob"), use("all", 9)) for _ in range(3))
    assert all(is_taken(limits, use("eve"), use("all", 9)) for _ in range(3))
    assert not is_taken(limits, use("dan"), use("all", 9))
    assert not is_taken(Limits(), use(most=0))


def test_what_is_known_only_afterwards_may_exceed_the_limit_once() -> None:
    clock = Clock()
    limits = Limits(clock=clock)
    left = use("tokens", 100, 100.0, 0)
    limits.take([left])
    limits.add(use("tokens", 100, 100.0, 250))
    with pytest.raises(LimitReached, match="Ask again in 3 minutes") as refused:
        limits.take([left])
    assert refused.value.retry_after == 150
    clock.time += 151
    limits.take([left])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "in a second"), (59, "in 59 seconds"), (100, "in 2 minutes"), (86_400, "in about 24 hours")],
)
def test_a_refusal_says_when_to_come_back(seconds: int, words: str) -> None:
    assert str(LimitReached("You have asked much", seconds)) == f"You have asked much. Ask again {words}."


def test_memory_is_bounded() -> None:
    clock = Clock()
    limits = Limits(most_names=5000, clock=clock)
    for number in range(20_000):  # nothing leaks meanwhile
        limits.take([use(f"visitor {number}")])
        assert len(limits) <= 5001
    clock.time += 3600
    for number in range(2000):  # what is empty makes room by itself
        limits.take([use(f"another {number}")])
    assert len(limits) <= 2001
