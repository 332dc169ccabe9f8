"""How servers of other people stand: noted once, looked at again after a while, and what that changes for clients."""

from tools.core.standing import CHANGES_EVERY_S, LOOK_AGAIN_S, MOST_DOUBLINGS, Standing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_server_that_fails_is_left_out_once_and_looked_at_again_ever_more_rarely() -> None:
    clock, told = Clock(), list[tuple[str, str | None]]()
    standing = Standing(lambda server, why: told.append((server, why)), clock)
    waits: list[float] = []
    for _ in range(MOST_DOUBLINGS + 3):
        standing.failed("docs", "no answer")
        began = clock.now
        assert standing.due() == []
        while not standing.due():
            clock.now += LOOK_AGAIN_S
        waits.append(clock.now - began)
        assert standing.due() == [], "it is given out once"
    assert told == [("docs", "no answer")] and standing.version == 1
    assert waits[0] == LOOK_AGAIN_S and waits[1] == 2 * waits[0] and waits[-1] == waits[-2] == LOOK_AGAIN_S * 16
    assert standing.down("docs") == "no answer" and standing.down("other") is None
    standing.listed("docs", {})
    assert told[1:] == [("docs", None)] and standing.version == 2
    assert standing.down("docs") is None and standing.withheld("docs", "search") is None
    standing.failed("docs", "gone again")
    clock.now += LOOK_AGAIN_S
    assert standing.due() == ["docs"], "it answered in between, so the first wait is the short one"


def test_tools_that_are_not_as_accepted_are_left_out_and_only_a_change_counts() -> None:
    standing = Standing(lambda _server, _why: None)
    standing.listed("docs", {})
    standing.listed("docs", {})
    assert standing.version == 0
    standing.listed("docs", {"search": "changed: description"})
    standing.listed("docs", {"search": "changed: description"})
    assert standing.version == 1
    assert standing.withheld("docs", "search") == "changed: description" and standing.withheld("docs", "read") is None


def test_a_server_that_keeps_saying_that_its_tools_changed_is_asked_every_now_and_then() -> None:
    clock = Clock()
    standing = Standing(lambda _server, _why: None, clock)
    asked = 0
    for _ in range(100):
        standing.changed("docs")
        clock.now += CHANGES_EVERY_S / 10
        asked += len(standing.due())
    assert 5 <= asked <= 10
