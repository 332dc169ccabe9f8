"""A/B tests as records, with the judge that plans and judges them: what is fixed, what is counted, what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.core.results import Status

DEFINITION = {"test": "t", "champion": "1", "challenger": "2", "unit": "user", "outcome": "bought", "upper": 1.0}


def create(project: Project, **changed: Any) -> dict[str, Any]:
    plan = project.ok("judge", "plan_ab_test", mde=changed.pop("mde", 0.1), variance=0.2)["plan_path"]
    return project.ok("ab_test", "create_test", **{**DEFINITION, "plan": plan, **changed})


def outcomes(project: Project, name: str, rows: list[tuple[str, str, float]] | pd.DataFrame, **more: Any) -> str:
    """A file of (outcome id, user, bought)."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows, columns=["outcome_id", "user", "bought"])
    frame.assign(**more).to_csv(project.root / name, index=False)
    return name


def record(project: Project, *args: Any, **more: Any) -> dict[str, Any]:
    return project.ok("ab_test", "record_outcomes", test="t", data=outcomes(project, *args, **more))


def refused(project: Project, action: str, **arguments: Any) -> str:
    result = project.call("ab_test", action, **arguments)
    assert result.status is Status.FAILED and result.error is not None, result
    assert result.error.kind is ErrorKind.FIXABLE
    return result.message


def simulated(project: Project, count: int, lift: float, seed: int = 0) -> pd.DataFrame:
    """One outcome for each of `count` users, who got the variant that the test assigns them."""
    users = [f"u{i}" for i in range(count)]
    variants = project.ok("ab_test", "assign", test="t", units=users)["variants"]
    random = np.random.default_rng(seed)
    rate = np.array([0.3 + lift * (variants[user] == "challenger") for user in users])
    return pd.DataFrame({"outcome_id": users, "user": users, "bought": (random.random(count) < rate).astype(int)})


def test_a_test_from_plan_to_decision(project: Project) -> None:
    made = create(project)
    assert (made["state"], made["units_path"]) == ("planned", None)
    recorded = record(project, "a.csv", simulated(project, 2_000, lift=0.2))
    assert recorded["units"] == recorded["outcomes"] == 2_000
    judged = project.ok("judge", "judge_ab_test", units=recorded["units_path"], design=made["design_path"])
    assert judged["verdict"] == "challenger_wins"
    assert judged["low"] < 0.2 < judged["high"] and judged["low"] > 0
    ended = {"test": "t", "winner": "challenger", "verdict": judged["verdict"], "reason": judged["message"]}
    first = project.ok("ab_test", "conclude", **ended)
    assert project.ok("ab_test", "conclude", **ended) == first, "the same decision again changes nothing"
    status = project.ok("ab_test", "status", test="t")
    assert (status["state"], status["winner"], status["units"]) == ("concluded", "challenger", 2_000)
    assert status["champion_units"] + status["challenger_units"] == 2_000


def test_after_the_decision_neither_outcomes_nor_another_decision_are_taken(project: Project) -> None:
    create(project)
    record(project, "a.csv", [("1", "ada", 1)])
    project.ok("ab_test", "conclude", test="t", winner="champion", verdict="no_relevant_gain", reason="r")
    more = outcomes(project, "b.csv", [("2", "bob", 1)])
    assert "concluded" in refused(project, "record_outcomes", test="t", data=more)
    other = {"winner": "challenger", "verdict": "challenger_wins", "reason": "r"}
    assert "a decision is not changed" in refused(project, "conclude", test="t", **other)
    assert project.ok("ab_test", "status", test="t")["outcomes"] == 1


def test_a_definition_may_change_until_the_first_outcome_and_not_after(project: Project) -> None:
    create(project)
    assert create(project, minimize=True)["state"] == "planned"
    record(project, "a.csv", [("1", "ada", 1)])
    assert create(project, minimize=True)["state"] == "running", "the same definition again is no change"
    plan = project.ok("judge", "plan_ab_test", mde=0.01, variance=0.2)["plan_path"]
    message = refused(project, "create_test", **{**DEFINITION, "plan": plan, "minimize": True})
    assert "cannot be changed" in message and "mde" in message


def test_a_test_needs_a_plan_and_two_versions(project: Project) -> None:
    (project.root / "other.json").write_text(json.dumps({"mde": 0.1}))
    assert "plan the test first" in refused(project, "create_test", **DEFINITION, plan="other.json")
    plan = project.ok("judge", "plan_ab_test", mde=0.1, variance=0.2)["plan_path"]
    assert "compares two" in refused(project, "create_test", **{**DEFINITION, "plan": plan, "challenger": "1"})
    assert "is no name" in refused(project, "create_test", **{**DEFINITION, "plan": plan, "test": "../x"})
    assert project.call("ab_test", "status", test="t").status is Status.NO_DATA


def test_outcomes_are_counted_once_however_often_they_are_sent(project: Project) -> None:
    create(project)
    rows = [("1", "ada", 1.0), ("2", "bob", 0.0)]
    assert record(project, "a.csv", rows)["added"] == 2
    again = record(project, "a.csv", [*rows, ("3", "cyd", 1.0)])
    assert (again["added"], again["known"], again["outcomes"]) == (1, 2, 3)
    changed = outcomes(project, "b.csv", [("1", "ada", 0.0)])
    assert "recorded before with other content" in refused(project, "record_outcomes", test="t", data=changed)
    twice = outcomes(project, "c.csv", [("9", "ada", 0.0), ("9", "bob", 0.0)])
    assert "'9' is there twice" in refused(project, "record_outcomes", test="t", data=twice)


def test_a_heavy_user_counts_once_and_its_value_stays(project: Project) -> None:
    create(project)
    heavy = [(f"h{i}", "heavy", float(i < 25)) for i in range(100)]
    recorded = record(project, "a.csv", [*heavy, ("1", "ada", 1.0)])
    units = pd.read_parquet(project.root / recorded["units_path"]).set_index("unit")
    assert units["outcome"].to_dict() == {"heavy": 0.25, "ada": 1.0}
    recorded = record(project, "b.csv", [("h100", "heavy", 1.0), ("2", "bob", 0.0)])
    units = pd.read_parquet(project.root / recorded["units_path"]).set_index("unit")
    assert units["outcome"].to_dict() == {"heavy": 0.25, "ada": 1.0, "bob": 0.0}
    assert units["outcomes"].to_dict() == {"heavy": 101, "ada": 1, "bob": 1}


def test_repeated_outcomes_of_few_users_prove_nothing(project: Project) -> None:
    """Five users on each side, 400 outcomes each: counted as 4,000 the difference would look certain."""
    made = create(project)
    users = simulated(project, 60, lift=0.0)["user"]
    variants = project.ok("ab_test", "assign", test="t", units=list(users))["variants"]
    chosen = [u for v in ("champion", "challenger") for u in [u for u in users if variants[u] == v][:5]]
    rows = [(f"{u}-{i}", u, float(variants[u] == "challenger")) for u in chosen for i in range(400)]
    recorded = record(project, "a.csv", rows)
    judged = project.ok("judge", "judge_ab_test", units=recorded["units_path"], design=made["design_path"])
    assert (judged["units"], judged["verdict"]) == (10, "keep_running")


def test_units_that_met_both_variants_are_set_aside_and_misrouting_is_counted(project: Project) -> None:
    create(project)
    variants = project.ok("ab_test", "assign", test="t", units=["ada", "bob"])["variants"]
    other = {"champion": "challenger", "challenger": "champion"}
    frame = pd.DataFrame({"outcome_id": ["1", "2", "3"], "user": ["ada", "ada", "bob"], "bought": [1, 1, 0]})
    record(project, "a.csv", frame, variant=[variants["ada"], other[variants["ada"]], variants["bob"]])
    status = project.ok("ab_test", "status", test="t")
    assert (status["units"], status["mixed_units"], status["misassigned"]) == (2, 1, 1)


def test_bad_outcome_files_are_refused_with_what_is_valid(project: Project) -> None:
    create(project)
    for name, rows, said in (
        ("a.csv", pd.DataFrame({"outcome_id": ["1"], "user": ["ada"]}), "no column 'bought'"),
        ("b.csv", [("1", "ada", 3.0)], "outcome must be in [0, 1]"),
        ("c.csv", [("1", "", 1.0)], "1 rows have no user"),
        ("d.csv", pd.DataFrame({"outcome_id": ["1"], "user": ["ada"], "bought": ["much"]}), "must be numeric"),
    ):
        assert said in refused(project, "record_outcomes", test="t", data=outcomes(project, name, rows))
    wrong = outcomes(project, "e.csv", [("1", "ada", 1.0)], variant="red")
    assert "variant is 'red'" in refused(project, "record_outcomes", test="t", data=wrong)
    assert project.ok("ab_test", "status", test="t")["state"] == "planned"


def test_concurrent_writers_lose_no_outcome(project: Project) -> None:
    create(project)
    files = [
        outcomes(project, f"{k}.csv", [(f"{k}-{i}", f"u{k}-{i}", float(i % 2)) for i in range(20)]) for k in range(8)
    ]
    # Each writer has a backend of its own, as another process has; the lock on disk is what they share.
    writers = [Project(project.root) for _ in files]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda w, f: w.ok("ab_test", "record_outcomes", test="t", data=f), writers, files))
    assert sorted(d["outcomes"] for d in done) == [20 * k for k in range(1, 9)]
    status = project.ok("ab_test", "status", test="t")
    assert (status["units"], status["outcomes"]) == (160, 160)
    left = [path.name for path in (project.root / ".mlops" / "ab_tests" / "t").rglob(".*.parquet*")]
    assert left == []


def evidence(project: Project, count: int) -> Path:
    """Serving's evidence: the challenger fails on every fourth of its units, where the champion answers instead."""
    frame = pd.DataFrame({"request_id": [f"r{i}" for i in range(count)], "unit": [f"u{i}" for i in range(count)]})
    variants = project.ok("ab_test", "assign", test="t", units=list(frame["unit"]))["variants"]
    routed = frame["unit"].map(variants)
    broken = (routed == "challenger") & (np.arange(count) % 4 == 0)
    frame["routed_to"] = routed
    frame["served_by"] = np.where(broken, "champion", routed)
    frame["champion_status"], frame["challenger_status"] = 200, np.where(broken, 500, 200)
    frame["champion_error"], frame["challenger_error"] = 1.0, np.where(broken, np.nan, 0.0)
    frame["kept_plan"] = "basic"
    path = project.root / "evidence.parquet"
    frame.to_parquet(path)
    return path


def test_servings_evidence_is_judged_by_assignment_with_the_answer_that_was_given(project: Project) -> None:
    made = create(project, outcome="error", minimize=True, guardrails=["failed"], segment="plan")
    path = evidence(project, 400)
    recorded = project.ok("ab_test", "record_outcomes", test="t", data=str(path))
    units = pd.read_parquet(project.root / recorded["units_path"])
    ours = units[units["variant"] == "challenger"]
    assert set(units.loc[units["variant"] == "champion", "outcome"]) == {1.0}
    # Where the challenger failed, its unit got the champion's wrong answer: that is the challenger's outcome.
    assert (ours["outcome"] == ours["guardrail_failed"]).all() and 0.1 < ours["outcome"].mean() < 0.4
    judged = project.ok("judge", "judge_ab_test", units=recorded["units_path"], design=made["design_path"])
    assert [g["name"] for g in judged["guardrails"]] == ["failed"] and judged["guardrails"][0]["harmed"]
    assert [s["name"] for s in judged["segments"]] == ["basic"]
    assert project.ok("ab_test", "status", test="t")["misassigned"] == 0


def test_units_and_their_daily_arrivals_are_counted(project: Project) -> None:
    days = pd.date_range("2026-01-01", periods=101, freq="6h")
    frame = pd.DataFrame({"user": [f"u{i // 2}" for i in range(101)], "at": days})
    frame.to_csv(project.root / "live.csv", index=False)
    found = project.ok("ab_test", "count_units", data="live.csv", unit="user", time_column="at")
    assert (found["rows"], found["units"], found["days"]) == (101, 51, 25)
    assert found["units_per_day"] == pytest.approx(51 / 25)
    part = project.ok("ab_test", "count_units", data="live.csv", unit="user", start=10, rows=20)
    assert (part["rows"], part["units"], part["units_per_day"]) == (20, 10, None)


def test_a_plan_says_when_there_is_too_little_traffic_or_time(project: Project) -> None:
    random = np.random.default_rng(0)
    pd.DataFrame({"user": np.repeat(np.arange(500), 4), "bought": (random.random(2_000) < 0.2).astype(float)}).to_csv(
        project.root / "past.csv", index=False
    )
    asked = {"history": "past.csv", "outcome": "bought", "mde": 0.02}
    plain = project.ok("judge", "plan_ab_test", **asked)
    assert plain["feasible"] and plain["mean"] == pytest.approx(0.2, abs=0.03)
    by_unit = project.ok("judge", "plan_ab_test", **asked, unit="user")
    assert by_unit["variance"] < 0.4 * plain["variance"], "four outcomes a user vary less than one"
    short = project.ok("judge", "plan_ab_test", **asked, available=1_000, units_per_day=100, max_days=14)
    assert not short["feasible"]
    assert "there are only 1000 units" in short["message"] and "within 14 days" in short["message"]
    enough = project.ok("judge", "plan_ab_test", **{**asked, "mde": short["smallest_mde"] * 1.05}, available=1_000)
    assert enough["feasible"]
