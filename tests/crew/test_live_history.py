"""Who was live, from journals: right at every moment of simulated releases, or doubtful where nobody can know."""

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crew.live_history import Answer, models, read_histories, who_was_live
from tools.core import journal as journal_module
from tools.core.journal import Journal
from tools.core.redact import Redactor

START = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
OLD = Path(__file__).parents[1] / "core" / "format_1"


class Clock(datetime):
    """The journal's clock, set by the test."""

    at = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        cls.at += timedelta(seconds=1)
        return cls.at


class Crash(Exception):
    pass


class Shop:
    """A production with its truth beside it: what served from when on, and the journals of the runs that did it."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        self.home, self.rng = home, rng
        self.live: tuple[str, str, float] = ("", "", 0.0)  # champion, canary, the canary's percent
        self.truth: list[tuple[datetime, tuple[str, str, float]]] = []
        self.unknown: list[tuple[datetime, datetime]] = []  # when an effect was there that no record tells
        self.approver: dict[str, tuple[str, str, str]] = {}  # version -> approver, reason, data version
        self.count = 0

    def begin(self, run: str) -> None:
        self.run = run
        self.journal = Journal(self.home / "runs" / run / "journal.jsonl", Redactor({}))

    def call(self, server: str, action: str, arguments: dict[str, Any], live: tuple[str, str, float] | None,
             *, by: str = "", crash: str = "", data: dict[str, Any] | None = None) -> str:  # fmt: skip
        self.count += 1
        call = f"c{self.count:04d}"
        write = self.journal.append
        write("intent", call_id=call, server=server, action=action, arguments=arguments,
              decision="ask" if by else "allow", rule="inside the limits", effect="risky")  # fmt: skip
        if by:
            write("approval_decided", call_id=call, state="approved", by=by, note="seen")
        write("begun", call_id=call)
        if crash == "before":
            raise Crash(call)
        if live is not None:
            self.live = live
            self.truth.append((Clock.at, live))
        if crash == "after":
            self.unknown.append((Clock.at, datetime.max.replace(tzinfo=UTC)))
            raise Crash(call)
        stated = {"name": "churn", "champion_version": self.live[0], "canary_version": self.live[1] or None,
                  "canary_percent": self.live[2]}  # fmt: skip
        write("outcome", call_id=call, status="ok", data=data if data is not None else stated)
        if live is not None:
            self.truth[-1] = (Clock.at, live)  # known, and in effect, from here on
        return call

    def die(self) -> None:
        journal = self.journal
        journal._finalizer.detach()
        journal._tail.heads.close()
        os.close(journal._tail.file)

    def resume(self, call: str, happened: bool) -> None:
        self.begin(self.run)
        if happened:
            self.journal.append("settled", call_id=call, status="ok", by="read_back")
            began, _ = self.unknown.pop()
            self.unknown.append((began, Clock.at))
        else:
            self.journal.append("settled", call_id=call, status="failed", by="read_back")

    def at(self, moment: datetime) -> tuple[str, str, float]:
        return next((live for since, live in reversed(self.truth) if since <= moment), ("", "", 0.0))


def release(shop: Shop, number: int) -> None:
    """One run: data versioned, the champion deployed again, a canary, its share changed, promoted or rolled back."""
    rng = shop.rng
    version, former = str(number + 2), shop.live[0]
    person = rng.choice(["alice", "bob", ""])
    steps: list[tuple[str, str, dict[str, Any], Any]] = []
    if former:
        steps.append(
            ("serving", "deploy_model", {"name": "churn", "version": former, "model_uri": "m"}, (former, "", 0.0))
        )
    else:
        former = "1"
        steps.append(("serving", "deploy_model", {"name": "churn", "version": "1", "model_uri": "m"}, ("1", "", 0.0)))
    percent = rng.choice([5.0, 10.0, 20.0])
    steps.append(
        (
            "serving",
            "start_canary",
            {"version": version, "percent": percent, "model_uri": "m"},
            (former, version, percent),
        )
    )
    if rng.random() < 0.5:
        steps.append(("serving", "set_traffic", {"percent": 50.0}, (former, version, 50.0)))
    if rng.random() < 0.7:
        steps.append(("serving", "promote_canary", {"version": version}, (version, "", 0.0)))
    else:
        steps.append(("serving", "rollback_canary", {}, (former, "", 0.0)))
    crashing = rng.randrange(len(steps)) if rng.random() < 0.6 else -1
    shop.begin(f"20261123-{number:06d}-00aa")
    data_version = f"data{number:04d}"
    shop.call("dvc", "version_data", {}, None, data={"version": data_version})
    if not shop.approver:
        shop.approver["1"] = ("the policy (inside the limits)", "inside the limits", data_version)
    for place, (server, action, arguments, live) in enumerate(steps):
        by = person if action == "promote_canary" else ""
        if action == "promote_canary":
            shop.approver[version] = (
                person or "the policy (inside the limits)",
                "seen" if person else "inside the limits",
                data_version,
            )
        try:
            shop.call(
                server,
                action,
                arguments,
                live,
                by=by,
                crash=rng.choice(["before", "after"]) if place == crashing else "",
            )
        except Crash as crash:
            shop.die()
            happened = bool(shop.unknown) and shop.unknown[-1][1].year == 9999
            Clock.at += timedelta(minutes=5)
            shop.resume(str(crash), happened)
            if not happened:  # done again, as a resumed run does
                shop.call(server, action, arguments, live, by=by)
    shop.journal.close()
    Clock.at += timedelta(minutes=rng.randint(1, 60))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock.at = START
    monkeypatch.setattr(journal_module, "datetime", Clock)


def served(answer: Answer) -> tuple[str, str, float]:
    champion, canary = answer.champion, answer.canary
    return (champion.version if champion else "", canary.version if canary else "", canary.share if canary else 0.0)


@pytest.mark.usefixtures("clock")
def test_fifty_releases_with_crashes_are_answered_right_at_every_moment(tmp_path: Path) -> None:
    rng = random.Random(7)
    shop = Shop(tmp_path, rng)
    for number in range(50):
        release(shop, number)
    assert len(shop.unknown) > 5
    histories = read_histories(tmp_path, os.environ)
    assert all(not history.trust for history in histories) and models(histories) == ["churn"]
    last = (Clock.at - START).total_seconds()
    moments = [START + timedelta(seconds=rng.uniform(0, last)) for _ in range(150)]
    moments += [since + timedelta(milliseconds=after) for since, _ in rng.sample(shop.truth, 60) for after in (-1, 0)]
    moments += [began + timedelta(seconds=30) for began, _ in shop.unknown]
    for moment in moments:
        answer = who_was_live(histories, moment, "churn")[0]
        truth = shop.at(moment)
        if any(began <= moment < settled for began, settled in shop.unknown):
            assert answer.doubts and f"version {truth[0]}" in " ".join(answer.doubts), moment
            continue
        assert served(answer) == truth, moment
        if answer.champion is not None:
            assert answer.champion.share == 100 - truth[2]
            origin = answer.champion.origin
            assert (origin.approver, origin.reason, origin.data_version) == shop.approver[truth[0]], moment


@pytest.mark.usefixtures("clock")
def test_a_call_that_began_and_was_never_settled_is_a_doubt_until_a_result_tells(tmp_path: Path) -> None:
    shop = Shop(tmp_path, random.Random(0))
    shop.begin("20261123-000001-00aa")
    shop.call("serving", "deploy_model", {"name": "churn", "version": "1"}, ("1", "", 0.0))
    shop.call("serving", "start_canary", {"version": "2", "percent": 20.0}, ("1", "2", 20.0))
    with pytest.raises(Crash):
        shop.call("serving", "promote_canary", {"version": "2"}, ("2", "", 0.0), by="alice", crash="after")
    shop.die()
    crashed = Clock.at
    histories = read_histories(tmp_path, os.environ)
    answer = who_was_live(histories, crashed + timedelta(seconds=1))[0]
    assert served(answer) == ("1", "2", 20.0) and "version 2 may be live" in answer.doubts[0]
    shop.begin("20261123-000002-00aa")
    seen = {"running": True, "name": "churn", "champion_version": "2", "canary_version": None, "canary_percent": 0.0}
    shop.call("serving", "status", {}, None, data=seen)
    answer = who_was_live(read_histories(tmp_path, os.environ), Clock.at)[0]
    assert served(answer) == ("2", "", 0.0) and answer.doubts == ()
    assert answer.champion is not None and answer.champion.origin.approver == "alice"


@pytest.mark.usefixtures("clock")
def test_the_word_of_a_changed_journal_is_doubtful_and_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path, random.Random(0))
    shop.begin("20261123-000001-00aa")
    shop.call("serving", "deploy_model", {"name": "churn", "version": "1"}, ("1", "", 0.0))
    shop.journal.close()
    path = shop.journal.path
    path.write_bytes(path.read_bytes().replace(b'"champion_version":"1"', b'"champion_version":"7"'))
    answer = who_was_live(read_histories(tmp_path, os.environ), Clock.at)[0]
    assert served(answer)[0] == "7" and "20261123-000001-00aa was changed" in answer.doubts[0]


@pytest.mark.usefixtures("clock")
def test_registry_digest_and_disagreement_are_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path, random.Random(0))
    shop.begin("20261123-000001-00aa")
    shop.call(
        "mlflow", "register_model", {"name": "churn"}, None, data={"name": "churn", "version": 2, "digest": "ab" * 32}
    )
    shop.call("serving", "deploy_model", {"name": "churn", "version": "1"}, ("1", "", 0.0))
    promoted = {"name": "churn", "version": 2, "previous_version": 1}
    shop.call("mlflow", "promote_version", {"name": "churn", "version": 2, "reason": "better"}, None, data=promoted)
    answer = who_was_live(read_histories(tmp_path, os.environ), Clock.at)[0]
    assert answer.registered is not None and answer.registered.digest == "ab" * 32
    assert answer.registered.origin.reason == "better" and "registry's champion was version 2" in answer.notes[0]
    before = who_was_live(read_histories(tmp_path, os.environ), START, "churn")[0]
    assert before.champion is None and before.registered is None


@pytest.mark.usefixtures("clock")
def test_denied_failed_and_stopped_calls(tmp_path: Path) -> None:
    shop = Shop(tmp_path, random.Random(0))
    shop.begin("20261123-000001-00aa")
    shop.call("serving", "deploy_model", {"name": "churn", "version": "1"}, ("1", "", 0.0))
    write = shop.journal.append
    write(
        "intent",
        call_id="c8",
        server="serving",
        action="deploy_model",
        arguments={"name": "churn", "version": "9"},
        decision="deny",
    )
    write("outcome", call_id="c8", status="denied")
    assert served(who_was_live(read_histories(tmp_path, os.environ), Clock.at)[0])[0] == "1"
    shop.call("serving", "stop", {}, None, data={"stopped": True})
    answer = who_was_live(read_histories(tmp_path, os.environ), Clock.at, "churn")[0]
    assert answer.champion is None


def test_a_journal_of_format_1_answers_and_is_said_to_be_unverified(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261123-142501-3f2a"
    run.mkdir(parents=True)
    (run / "journal.jsonl").write_bytes((OLD / run.name / "journal.jsonl").read_bytes())
    answer = who_was_live(read_histories(tmp_path, os.environ), datetime(2026, 12, 1, tzinfo=UTC), "churn")[0]
    assert answer.champion is not None and answer.champion.version == "2"
    origin = answer.champion.origin
    assert (origin.approver, origin.data_version) == ("alice", "9f2c41d0") and "better by" in origin.reason
    assert answer.doubts == () and "without a chain" in answer.notes[0]
