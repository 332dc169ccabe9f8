"""What a client hears of a call under way: its progress, where a person is waited for, and that it lives."""

from typing import Any

from tools.core.relay import SILENCE_S, Relay

Said = list[tuple[float, float | None, str]]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def relay() -> tuple[Relay, Said, Clock]:
    said, clock = Said(), Clock()
    return Relay("request 1", "fake_drop", lambda *told: said.append(told), clock), said, clock


def progress(done: float, **more: Any) -> dict[str, Any]:
    return {"kind": "progress", "call_id": "c1", "done": done, "total": 3.0, "message": f"step {done}", **more}


INTENT = {"kind": "intent", "task": "request 1", "call_id": "c1"}


def test_a_call_is_never_silent_for_long_and_a_talkative_one_is_not_interrupted() -> None:
    made, said, clock = relay()
    made(INTENT)
    for _ in range(60):
        clock.now += 1.0
        made.beat()
    assert len(said) == 60 / SILENCE_S
    assert said[0][2] == f"fake_drop is under way, {SILENCE_S:.0f} s"
    said.clear()
    for step in range(20):
        clock.now += 1.0
        made(progress(step + 1.0))
        made.beat()
    assert [message for _, _, message in said] == [f"step {step + 1.0}" for step in range(20)]


def test_progress_grows_with_every_notification_whoever_sends_it() -> None:
    made, said, clock = relay()
    made(INTENT)
    made({"kind": "approval_requested", "call_id": "c1", "approval": {"id": "a1", "asks": False}})
    made(progress(10.0, total=None, message="waits for a person: mlops-crew approve a1"))
    clock.now += SILENCE_S
    made.beat()
    made({"kind": "approval_decided", "call_id": "c1"})
    for done in (1.0, 1.0, 2.0, 3.0):
        made(progress(done))
    numbers = [done for done, _, _ in said]
    assert numbers == sorted(set(numbers)), "it must increase"
    assert numbers[2] < 1.0, "seconds of waiting are no progress"
    assert [message.startswith("waits for a person: mlops-crew approve a1") for *_, message in said[:4]] == [
        True, True, True, False
    ]  # fmt: skip


def test_other_calls_are_not_told_of() -> None:
    made, said, _ = relay()
    made({"kind": "intent", "task": "request 2", "call_id": "c2"})
    made(progress(1.0))
    made(INTENT)
    made(progress(1.0, call_id="c2"))
    assert said == []
