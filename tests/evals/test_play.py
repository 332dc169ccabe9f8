"""The evaluation scenarios: there is a case of every kind, it can be failed, and the whole crew plays it."""

from typing import Any

import pytest

from evals.play import goal, load_case, names, play
from evals.scoring import Played, score
from tasks.goal import Goal
from tools.core.yamlfile import ConfigError

GROUPS = {
    "bad data", "covariate drift", "concept drift", "label delay", "new class", "canary regression",
    "segment regression", "latency regression", "late regression", "registry outage", "flaky tool", "slow burn",
    "nothing wrong", "more to learn",
}  # fmt: skip

CASES = {name: load_case(name) for name in names()}


def test_every_kind_of_trouble_has_a_case_and_four_cases_have_none() -> None:
    groups = [case.group for case in CASES.values()]
    assert len(groups) >= 15
    assert set(groups) == GROUPS
    assert groups.count("nothing wrong") >= 4


@pytest.mark.parametrize("name", CASES)
def test_what_the_crew_is_given_does_not_name_the_trouble(name: str) -> None:
    case = CASES[name]
    given = str({**goal(name, case), "canary": None, "constraints": None}).lower()  # a goal has these whatever happens
    named = {*case.group.split(), "drift", "regression", "broken", "wrong"} - {"data", "label", "canary"}
    assert not {word for word in named if word in given}
    Goal.model_validate(goal(name, case))


@pytest.mark.parametrize("name", CASES)
def test_a_case_can_be_failed(name: str) -> None:
    """A run that does nothing, and one that promotes whatever it trained, both fail what is not theirs to do."""
    expect = CASES[name].expect
    idle = score(expect, played(outcome="failed", champion=None))
    eager = score(expect, played(outcome="promoted", champion=9, value=0.5, done=["serving.promote_canary"]))
    assert not idle.passed and not eager.passed


def played(
    outcome: str = "promoted",
    results: dict[str, Any] | None = None,
    champion: int | None = 2,
    serving: int | None = None,
    value: float | None = 0.8,
    done: list[str] | None = None,
    failed: dict[str, str] | None = None,
) -> Played:
    records: list[Any] = []
    calls = [(name, "ok", "") for name in done or []] + [
        (name, "failed", text) for name, text in (failed or {}).items()
    ]
    for number, (name, status, text) in enumerate(calls):
        server, _, action = name.partition(".")
        records.append({"kind": "intent", "call_id": str(number), "server": server, "action": action})
        records.append({"kind": "outcome", "call_id": str(number), "status": status, "message": text})
    return Played(outcome, records, results or {}, champion, serving, value, 0.85, 1.0)


def test_a_wrong_case_file_names_the_key() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_case("unheard_of")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["agate", "onyx"])
def test_a_case_is_played_by_the_whole_crew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    found = play(name, seed=0)
    assert found["passed"], found["notes"]
    assert found["mode"] == "runbook" and found["calls"] >= 3
