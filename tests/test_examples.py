"""Every shipped goal runs to its end on the real data it names."""

import shutil
from pathlib import Path

import pytest

from crew.mlops_crew import MlopsCrew
from tests.conftest import data_folder

ROOT = Path(__file__).parents[1]
DECIDED = {"promoted", "rolled_back", "champion_kept", "inconclusive", "no_action"}
# What each goal's data says today; where several ends are sound, all of them.
EXPECTED = {
    "bank_marketing": DECIDED - {"no_action"},  # AUC falls from 2008 to 2010; what then wins is close
    "bike_hourly": {"promoted"},
    "bike_hourly_dirty": {"data_rejected"},
    "elec2": {"promoted"},
    "noaa_weather": {"no_action"},
}

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def copy_project(folder: Path) -> None:
    """The configuration and the goals, with a latency bound that a busy machine keeps too: quality is to decide."""
    for part in ("config", "examples"):
        shutil.copytree(ROOT / part, folder / part)
    for goal in (folder / "examples").glob("*.yaml"):
        text = goal.read_text(encoding="utf-8")
        assert "max_latency_ms: 200" in text
        goal.write_text(text.replace("max_latency_ms: 200", "max_latency_ms: 5000"), encoding="utf-8")


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.yaml")} == EXPECTED.keys()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_runs_to_its_end(
    name: str, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data_folder() == real_data
    copy_project(tmp_path)
    monkeypatch.setenv("MLOPS_DATA", str(real_data))
    for variable in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    outcome = MlopsCrew(f"examples/{name}.yaml", project=tmp_path).run()
    assert outcome.outcome in EXPECTED[name], outcome.summary
    assert outcome.exit_code == (3 if name == "bike_hourly_dirty" else 0)
    if name == "bike_hourly_dirty":
        assert "26 rows" in outcome.summary  # of the 141, those in the current half
    assert outcome.report is not None and outcome.report.stat().st_size > 20_000


def test_the_dirty_copy_runs_to_its_end_when_bad_rows_may_be_set_aside(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_project(tmp_path)
    goal = tmp_path / "examples" / "bike_hourly_dirty.yaml"
    goal.write_text(goal.read_text().replace("on_bad_rows: stop", "on_bad_rows: quarantine"))
    monkeypatch.setenv("MLOPS_DATA", str(real_data))
    monkeypatch.delenv("MODEL", raising=False)
    outcome = MlopsCrew("examples/bike_hourly_dirty.yaml", project=tmp_path).run()
    assert outcome.outcome in DECIDED, outcome.summary
    checked = outcome.results["check_data"].model_dump()
    assert checked["quarantined_rows"] == 141
