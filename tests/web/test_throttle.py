from assistant.web.throttle import MOST_ADDRESSES, WRONG_KEY_SECONDS, WRONG_KEYS, Throttle


def test_the_throttle_releases_and_forgets_addresses() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    for address in ("guesser", "neighbour"):
        for _ in range(WRONG_KEYS):
            assert throttle.seconds(address) == 0
            throttle.admits(address, is_right=False)
        now += 1
    assert (throttle.seconds("guesser"), throttle.seconds("neighbour")) == (58, 59)
    now += WRONG_KEY_SECONDS
    assert throttle.seconds("neighbour") == 0
    throttle.admits("neighbour", is_right=True)
    for _ in range(2 * WRONG_KEYS):
        throttle.admits("neighbour", is_right=False)
    assert throttle.seconds("neighbour") == 0
    for _ in range(WRONG_KEYS):
        throttle.admits("guesser", is_right=False)
    throttle.admits("guesser", "own door", is_right=True)
    assert (throttle.seconds("guesser", "own door"), throttle.seconds("guesser", "other door")) == (0, 60)
    for number in range(2 * MOST_ADDRESSES):
        throttle.admits(str(number), is_right=False)
    assert len(throttle._wrong) == MOST_ADDRESSES
