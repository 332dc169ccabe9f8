"""The loop with an A/B test between canary and release, on real libraries and real HTTP."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crew.mlops_crew import MlopsCrew
from tasks import ab_test, canary, close_loop, release
from tests.helpers.tiny_project import make_project, rows
from tools.core.journal import read_journal
from tools.modeling.assignment import assign

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

CURRENT_ROWS = 8_000
LIVE_ROWS = CURRENT_ROWS // 5  # the newest fifth
CANARY_ROWS = 800  # the canary is judged once, on these
CANARY = {"batch_requests": CANARY_ROWS, "max_requests": CANARY_ROWS, "percent": 20}


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def project(folder: Path, database: Path, *, returns: bool = False, **test: Any) -> Path:
    """Every customer has two rows. `returns`: after the canary's rows the concept is as it was before the drift."""
    turned = CURRENT_ROWS - (LIVE_ROWS - CANARY_ROWS if returns else 0)
    parts = [rows(turned, turned=True, seed=2), rows(CURRENT_ROWS - turned, turned=False, seed=3)]
    current = pd.concat([part for part in parts if len(part)], ignore_index=True)
    current["customer"] = [f"c{row // 2}" for row in range(CURRENT_ROWS)]
    section = {"unit": "customer", "mde": 0.2, "batch_requests": 200, "segment": "c", **test}
    data = {"reference": "data/reference.csv", "current": "data/current.csv", "drop": ["customer"]}
    # Where the newest rows are as before, training again would not pay; the goal's missed minimum decides all the same.
    bounds = {"max_latency_ms": 2000, "min_metric": 0.6}
    made = make_project(folder, mlflow_database=database, data=data, ab_test=section, canary=CANARY, constraints=bounds)
    reference = pd.read_csv(made / "data" / "reference.csv")
    reference["customer"] = [f"r{row // 2}" for row in range(len(reference))]
    reference.to_csv(made / "data" / "reference.csv", index=False)
    current.to_csv(made / "data" / "current.csv", index=False)
    return made


def calls(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder / "journal.jsonl") if record["kind"] == "intent"]


def test_a_challenger_that_wins_the_ab_test_is_promoted_and_the_champion_retired(
    tmp_path: Path, mlflow_database: Path
) -> None:
    made = project(tmp_path / "p", mlflow_database)
    outcome = MlopsCrew(project=made, seed=3).run()
    assert outcome.outcome == "promoted", outcome.summary
    tested = outcome.results["ab_test"]
    assert isinstance(tested, ab_test.Result)
    assert tested.verdict == "challenger_wins"
    assert tested.difference_low is not None and tested.difference_low > 0
    closed = outcome.results["close_loop"]
    assert isinstance(closed, close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (2, 1)
    assert "A/B test by customer" in outcome.summary

    made_calls = calls(outcome.folder)
    order = [f"{call['server']}.{call['action']}" for call in made_calls if call["task"] in ("ab_test", "release")]
    assert order[:4] == ["ab_test.count_units", "judge.plan_ab_test", "ab_test.create_test", "serving.start_canary"]
    assert order.index("ab_test.conclude") < order.index("serving.promote_canary")

    stored = json.loads((made / ".mlops" / "ab_tests" / "tiny-1-2" / "test.json").read_text())
    assert stored["state"] == "concluded" and stored["decision"]["winner"] == "challenger"
    assert stored["misassigned"] == 0, "serving routes by the assignment of the test"
    evidence = pd.read_parquet(made / str(tested.evidence_path))
    assert evidence.groupby("unit")["routed_to"].nunique().max() == 1, "a customer never sees both"
    salt = str(stored["definition"]["salt"])
    weights = {"champion": 50.0, "challenger": 50.0}
    assert evidence["routed_to"].tolist() == [assign(salt, unit, weights) for unit in evidence["unit"]]
    units = pd.read_parquet(made / ".mlops" / "ab_tests" / "tiny-1-2" / "units.parquet")
    assert len(units) == evidence["unit"].nunique() == tested.units
    assert np.allclose(units["outcomes"].sum(), len(evidence))
    report = json.loads((outcome.folder / "report.json").read_text())
    assert report["run"]["outcome"] == "promoted"


def test_a_challenger_that_passes_the_canary_but_loses_the_ab_test_is_rolled_back(
    tmp_path: Path, mlflow_database: Path
) -> None:
    made = project(tmp_path / "p", mlflow_database, returns=True)
    outcome = MlopsCrew(project=made, seed=3).run()
    judged, tested = outcome.results["canary"], outcome.results["ab_test"]
    assert isinstance(judged, canary.Result) and isinstance(tested, ab_test.Result)
    assert judged.verdict == "promote"
    assert tested.verdict == "champion_wins", tested.summary
    assert outcome.outcome == "rolled_back", outcome.summary
    released = outcome.results["release"]
    assert isinstance(released, release.Result) and not released.promoted
    closed = outcome.results["close_loop"]
    assert isinstance(closed, close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (1, 2)
    state = json.loads((made / ".mlops" / "serving" / "state.json").read_text())
    assert state["champion"]["version"] == "1"


def test_a_test_that_could_not_decide_is_not_started_and_the_champion_stays(
    tmp_path: Path, mlflow_database: Path
) -> None:
    made = project(tmp_path / "p", mlflow_database, mde=0.001)
    outcome = MlopsCrew(project=made, seed=3).run()
    assert outcome.outcome == "inconclusive", outcome.summary
    tested = outcome.results["ab_test"]
    assert isinstance(tested, ab_test.Result)
    assert tested.verdict == "underpowered" and tested.units == 0
    assert "not feasible: there are only" in tested.summary
    done = [f"{call['server']}.{call['action']}" for call in calls(outcome.folder) if call["task"] == "ab_test"]
    assert done == ["ab_test.count_units", "judge.plan_ab_test"]
    closed = outcome.results["close_loop"]
    assert isinstance(closed, close_loop.Result)
    assert closed.retired_version is None, "it may be tried again with more traffic"
