"""A run that ends anywhere, of whatever, is gone on with and ends as an uninterrupted one."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crew.mlops_crew import MlopsCrew, RunOutcome
from crew.resuming import NotResumable, suspended_runs
from tests.helpers import shop, shop_crew
from tests.helpers.answers import answering
from tests.helpers.cuts import Cuts
from tests.helpers.shop_crew import make_shop
from tools.core.approval import ApprovalStore
from tools.core.journal import read_journal

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.timeout(1800), pytest.mark.filterwarnings("ignore")]  # every cut is a run of its own


@pytest.fixture(autouse=True)
def the_shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    shop_crew.install()
    yield
    shop_crew.uninstall()


def told(outcome: RunOutcome) -> Any:
    results = {name: result.model_dump() for name, result in outcome.results.items()}
    return outcome.outcome, outcome.summary, results


def effects(home: Path) -> list[tuple[str, str]]:
    return [(item["what"], item["item"]) for item in shop.done(home)]


@pytest.mark.parametrize("autonomy", ["autonomous", "supervised"])
def test_a_run_cut_off_before_any_record_ends_as_an_uninterrupted_one(tmp_path: Path, autonomy: str) -> None:
    """Between any two records, and between each effect and its record. `MLOPS_EVERY_CUT=1` tries every point of both
    runs; without it a run that is asked is tried at every fourth point."""
    project = make_shop(tmp_path / "p", autonomy=autonomy)
    home = project / ".mlops"
    listen = answering(home)
    cuts = Cuts(home, tmp_path / "cuts")
    with cuts.taken():
        whole = MlopsCrew(project=project, on_record=listen).run()
    wanted, done = told(whole), effects(home)
    assert wanted[0] == "completed", whole.summary
    assert done == [("ship", "a"), ("note", "n"), ("ship", "b"), ("note", "n"), ("ship", "blue")]
    asked = len([record for record in cuts.records if record["kind"] == "approval_requested"])
    assert asked == (1 if autonomy == "autonomous" else 7)
    first = next(n for n, record in enumerate(cuts.records) if record["kind"] == "run_started")
    points = cuts.points[first + 1 :]  # before the first record there is no run yet
    assert len(points) >= 40
    if autonomy == "supervised" and not os.environ.get("MLOPS_EVERY_CUT"):
        points = points[::4]
    for point in points:
        missing = cuts.back_to(point)
        outcome = MlopsCrew.resume(whole.run_id, project=project, on_record=listen)
        assert told(outcome) == wanted, missing
        assert effects(home) == done, missing
        records = list(read_journal(outcome.folder / "journal.jsonl"))
        assert records[-1]["kind"] == "run_finished"
        spent = [record["approval_id"] for record in records if record["kind"] == "begun" and record["approval_id"]]
        assert len(set(spent)) == asked, missing


@pytest.mark.parametrize("kind", ["begun", "outcome"])
def test_a_process_that_is_killed_leaves_a_run_that_is_gone_on_with(tmp_path: Path, kind: str) -> None:
    """A real process, ended by SIGKILL right after the second record of a kind."""
    project = make_shop(tmp_path / "p", tasks=("open_up",), autonomy="autonomous")
    code = f"""
        import os, signal
        from pathlib import Path
        from crew.mlops_crew import MlopsCrew
        from tests.helpers import shop_crew
        seen = []
        def listen(record):
            seen.append(record["kind"])
            if seen.count({kind!r}) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        shop_crew.install()
        MlopsCrew(project=Path({str(project)!r}), on_record=listen).run()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=False, timeout=280)
    assert ended.returncode == -signal.SIGKILL
    (journal,) = (project / ".mlops" / "runs").glob("*/journal.jsonl")
    outcome = MlopsCrew.resume(journal.parent.name, project=project)
    assert outcome.outcome == "completed"
    assert effects(project / ".mlops") == [("ship", "a"), ("note", "n")]


def test_a_finished_run_is_not_resumed_and_says_so(tmp_path: Path) -> None:
    project = make_shop(tmp_path / "p", tasks=("open_up",), autonomy="autonomous")
    outcome = MlopsCrew(project=project).run()
    with pytest.raises(NotResumable, match="has ended"):
        MlopsCrew.resume(outcome.run_id, project=project)
    with pytest.raises(NotResumable, match="there is no run"):
        MlopsCrew.resume("20260101-000000-0000", project=project)


def test_a_question_that_nobody_answers_ends_the_process_and_the_answer_lets_it_go_on(tmp_path: Path) -> None:
    project = make_shop(tmp_path / "p", tasks=("sell",), autonomy="autonomous")
    home = project / ".mlops"
    outcome = MlopsCrew(project=project, patience_s=0.0).run()
    assert (outcome.outcome, outcome.exit_code) == ("suspended", 5)
    assert "mlops-crew choose" in outcome.summary
    store = ApprovalStore(home / "approvals")
    (asked,) = store.pending()

    def answered(name: str) -> bool:
        return store.get(name).state != "pending"

    ((recorded, why),) = suspended_runs(home, answered)
    assert recorded.run_id == outcome.run_id and not why
    again = MlopsCrew.resume(outcome.run_id, project=project, patience_s=0.0)
    assert again.outcome == "suspended", "nobody answered in between"
    store.choose(asked.id, "red", by="ann")
    ((_, why),) = suspended_runs(home, answered)
    assert why == "the question is answered"
    done = MlopsCrew.resume(outcome.run_id, project=project, patience_s=0.0)
    assert done.outcome == "completed" and done.results["sell"].model_dump()["told"][2] == "red by ann"
    assert effects(home) == [("ship", "b"), ("note", "n"), ("ship", "red")]
    assert suspended_runs(home, answered) == []


def test_a_runbook_that_waits_for_labels_goes_on_behind_its_wait(tmp_path: Path) -> None:
    project = make_shop(tmp_path / "p", tasks=("open_up", "wait_for_letters"), autonomy="autonomous")
    home = project / ".mlops"
    labels = shop_crew.PATHS["labels"] = tmp_path / "labels.csv"
    outcome = MlopsCrew(project=project).run()
    assert (outcome.outcome, outcome.summary) == ("suspended", "labels of the letters are to come")
    ((_, why),) = suspended_runs(home, lambda _: False)
    assert not why
    labels.write_text("here\n")
    ((_, why),) = suspended_runs(home, lambda _: False)
    assert why == "labels.csv is newer"
    done = MlopsCrew.resume(outcome.run_id, project=project)
    assert done.outcome == "completed"
    assert done.results["wait_for_letters"].model_dump()["told"] == ["2 done", "burns at 3"], "the lamp burns again"
    assert effects(home) == [("ship", "a"), ("note", "n"), ("note", "late")]


def test_the_goal_of_the_journal_counts_and_a_changed_file_is_told(tmp_path: Path) -> None:
    project = make_shop(tmp_path / "p", tasks=("sell",), autonomy="autonomous")
    outcome = MlopsCrew(project=project, patience_s=0.0, seed=7).run()
    goal = project / "config" / "goal.yaml"
    goal.write_text(goal.read_text().replace("name: shop", "name: bazaar"))
    crew = MlopsCrew.resumed(outcome.run_id, project=project, patience_s=0.0)
    assert (crew.goal.name, crew.seed, crew.run_id) == ("shop", 7, outcome.run_id)
    crew.run()
    resumed = [r for r in read_journal(outcome.folder / "journal.jsonl") if r["kind"] == "run_resumed"]
    assert resumed[-1]["changed_goal"] == ["name"]
