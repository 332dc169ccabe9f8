"""The Sentinel looks ahead: a slow burn is answered before it does harm, noise and abrupt changes are not foretold."""

from pathlib import Path
from typing import Any

import pytest

from tasks import assess_champion, close_loop, foresee, release
from tests.crew.test_loop import Played
from tests.helpers.tiny_project import make_project
from tools.session import open_gateway

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

DAY_S = 86_400
MINIMUM = 0.65
BURNING: dict[str, Any] = {
    "story": "burning",
    "data": {"reference": "data/reference.csv", "current": "data/current.csv", "time_column": "at"},
    "constraints": {"max_latency_ms": 2000, "min_metric": MINIMUM},
    "watch": {"horizon": "120 d"},
    "canary": {"batch_requests": 180, "percent": 20, "tolerance": 0.05},
}


@pytest.fixture(scope="module", autouse=True)
def no_model() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def burnt(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Played:
    folder = tmp_path_factory.mktemp("burning") / "p"
    return Played(make_project(folder, mlflow_database=mlflow_database, **BURNING), seed=3)


def test_a_slow_burn_is_foretold_with_its_time_while_quality_is_still_good_enough(burnt: Played) -> None:
    seen = burnt.result("foresee", foresee.Result)
    assert (seen.act, seen.outlook, seen.measure, seen.unit) == (True, "crossing", "roc_auc", "s")
    assert seen.expected_in is not None and seen.expected_from is not None
    # The true level fell from 0.89 to 0.71 within the 120 days of the burn: at that speed 0.65 is about 40 days away.
    assert 0 < seen.expected_from <= seen.expected_in <= 120 * DAY_S
    assert "expected to cross 0.65 in" in seen.summary and " d" in seen.summary
    newest = burnt.data("mlflow", "evaluate_model")[2]  # reference, current, newest
    assert newest["value"] > MINIMUM, "nothing is breached yet"


def test_the_backup_is_checked_on_the_newest_rows_before_it_stands_by(burnt: Played) -> None:
    seen = burnt.result("foresee", foresee.Result)
    intents = burnt.of("intent", task="foresee")
    asked = [f"{r['server']}.{r['action']}" for r in intents]
    assert asked[-1] == "mlflow.set_backup" and intents[-1]["effect"] == "write"
    checked = [r["arguments"] for r in intents if r["action"] == "evaluate_model"][-1]
    assert "live" in checked["data"]
    assert seen.backup_version == intents[-1]["arguments"]["version"] == 2
    with open_gateway(burnt.project) as gateway:
        listed = gateway.call("mlflow", {"action": "list_versions", "name": "tiny"})
    assert listed.data is not None
    aliases = {v["version"]: v["aliases"] for v in listed.data["versions"]}
    assert aliases[2] == ["backup"]


def test_the_forecast_triggers_a_retraining_that_replaces_the_champion_in_time(burnt: Played) -> None:
    assessed = burnt.result("assess_champion", assess_champion.Result)
    assert assessed.act
    assert any(reason.startswith("Forecast: roc_auc") for reason in assessed.reasons)
    assert burnt.outcome.outcome == "promoted", burnt.outcome.summary
    assert burnt.result("release", release.Result).promoted
    closed = burnt.result("close_loop", close_loop.Result)
    assert (closed.champion_version, closed.retired_version) == (3, 1)


def test_the_report_draws_the_forecast(burnt: Played) -> None:
    assert burnt.outcome.report is not None
    html = burnt.outcome.report.read_text(encoding="utf-8")
    assert "Looking ahead" in html
    assert "expected to cross 0.65" in html


def test_without_a_change_nothing_is_foretold_and_nothing_prepared(tmp_path: Path, mlflow_database: Path) -> None:
    played = Played(make_project(tmp_path / "p", story="same", mlflow_database=mlflow_database), seed=3)
    seen = played.result("foresee", foresee.Result)
    assert (seen.act, seen.backup_version, seen.unit) == (False, None, "rows")
    assert "mlflow.set_backup" not in played.calls()
    assert played.outcome.outcome == "no_action", played.outcome.summary


def test_an_abrupt_change_is_not_foretold_but_left_to_the_tests_of_quality(
    tmp_path: Path, mlflow_database: Path
) -> None:
    constraints = {"max_latency_ms": 2000, "min_metric": 0.1}  # far below: the jump does not cross it
    project = make_project(tmp_path / "p", story="abrupt", constraints=constraints, mlflow_database=mlflow_database)
    played = Played(project, seed=3)
    seen = played.result("foresee", foresee.Result)
    assert (seen.act, seen.outlook) == (False, "not_forecastable")
    assert "an abrupt change has no course to continue" in seen.summary
    assert "mlflow.set_backup" not in played.calls()
    decided = played.data("judge", "decide_retraining")[0]
    assert played.result("assess_champion", assess_champion.Result).act == decided["act"]
