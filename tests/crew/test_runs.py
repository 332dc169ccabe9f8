"""The list of runs."""

from pathlib import Path

import pytest

from crew.runs import UnknownRunError, latest_run, list_runs, show_run
from tests.helpers.journal_example import RUN_ID, failed_run, promoted_run, quiet_run
from tools.core.journal import Journal
from tools.core.redact import Redactor


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for make in (failed_run, promoted_run, quiet_run):
        make(tmp_path).write()
    calls = tmp_path / ".mlops" / "runs" / "20261130-000000-0000"
    Journal(calls / "journal.jsonl", Redactor({})).append("intent", call_id="c1", server="dvc", action="x")
    (tmp_path / ".mlops" / "runs" / "without a journal").mkdir()
    home = tmp_path / ".mlops"
    listed = list_runs(home)
    assert [run.outcome for run in listed] == ["calls", "promoted", "no_action", "failed"]
    assert (listed[1].goal_name, listed[1].autonomy, listed[1].report) == ("churn", "autonomous", None)
    newest = latest_run(home)
    assert newest is not None and newest.id == RUN_ID
    assert show_run(home, RUN_ID)["run"]["outcome"] == "promoted"


def test_a_run_that_failed_after_it_changed_production_says_so_in_its_headline_everywhere(tmp_path: Path) -> None:
    from crew.narrate import Narrator, ending_text
    from crew.report import write_report

    served = "Production serves version 2 of churn, alone."
    made = failed_run(tmp_path)
    made.records[-1] |= {"production": served, "summary": f"{served} Watching production: nothing answers."}
    made.write()
    home = tmp_path / ".mlops"
    words = "Failed: the run ended with an error. Production serves version 2 of churn, alone"
    assert list_runs(home)[0].headline == words
    shown = show_run(home, made.folder.name)["verdict"]
    assert shown["headline"] == words and shown["summary"].startswith(served)
    assert words in write_report(home / "runs" / made.folder.name).html.read_text(encoding="utf-8")
    narrator = Narrator(None)
    for record in made.records:
        narrator.lines(record, 0.0)
    assert narrator.ending is not None and ending_text(narrator.ending) == (f"ERROR. {words}", "bad")


def test_an_unknown_run_names_the_newest(tmp_path: Path) -> None:
    promoted_run(tmp_path).write()
    with pytest.raises(UnknownRunError, match=rf"'nope'.*newest: {RUN_ID}"):
        show_run(tmp_path / ".mlops", "nope")
    with pytest.raises(UnknownRunError, match="none yet"):
        show_run(tmp_path / "empty", "nope")
    assert list_runs(tmp_path / "empty") == [] and latest_run(tmp_path / "empty") is None
