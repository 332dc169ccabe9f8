"""Which tasks may change production: what a task says of itself is what its runbook does."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import release
from tasks.base import load_task
from tools.core.contract import Effect
from tools.registry import load_spec

TASKS = Path(__file__).parents[2] / "tasks"
CALL = re.compile(r"""call\(\s*"(\w+)",\s*"(\w+)\"""")
NAMES = sorted(p.stem for p in TASKS.glob("[!_]*.py") if load_task(p.stem).runbook is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_names_the_risky_actions_of_its_runbook_and_no_others(name: str) -> None:
    called = set(CALL.findall((TASKS / f"{name}.py").read_text(encoding="utf-8")))
    risky = {
        f"{integration}.{action}"
        for integration, action in called
        if load_spec(integration).action(action).effect is Effect.RISKY
    }
    assert load_task(name).risky == risky


def test_some_tasks_change_production_and_most_do_not() -> None:
    assert len(NAMES) >= 15
    changing = {name for name in NAMES if load_task(name).risky}
    assert {"canary", "release", "restore_champion", "close_loop"} <= changing
    assert not changing & {"check_data", "detect_drift", "assess_champion", "watch_production", "settle_canary"}


@pytest.mark.parametrize("verdict", ["promote", "rollback", "wait"])
def test_a_release_may_promote_only_what_was_decided_to_be(verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "decided", lambda inputs: SimpleNamespace(verdict=verdict))
    inputs: Any = None  # read by `decided` alone
    allowed = load_task("release").may_risk(inputs)
    assert allowed is not None and "serving.rollback_canary" in allowed
    promoting = {"serving.promote_canary", "mlflow.promote_version", "serving.deploy_model"}
    assert allowed & promoting == (promoting if verdict == "promote" else set())


def test_a_task_of_yaml_alone_is_left_to_the_policy() -> None:
    assert load_task("count_versions").risky is None
