"""A run in a notebook: what the cell shows and asks, and the evidence as tables and plots (of a made-up journal)."""

import builtins
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crew import notebook
from crew.mlops_crew import RunOutcome
from crew.prompt import cell_prompt
from crew.report import write_report
from tests.crew.test_display import approval, choice
from tests.helpers.journal_example import promoted_run, quiet_run
from tools.core.approval import Edited, Pick


@pytest.fixture
def outcome(tmp_path: Path) -> RunOutcome:
    folder = promoted_run(tmp_path).write()
    report = write_report(folder).html
    return RunOutcome(folder.name, "promoted", "a < b \x1b[31mred\x1b[0m", 0, folder, report)


class Screen:
    """Keeps what was written."""

    def __init__(self) -> None:
        self.written = ""

    def pause(self) -> None: ...
    def resume(self) -> None: ...

    def write(self, text: str) -> None:
        self.written += text


def test_the_outcome_shows_itself_with_its_report_cleaned_and_without_a_script(outcome: RunOutcome) -> None:
    shown = notebook.outcome_html(outcome)
    assert "Promoted: the challenger is the new champion" in shown
    assert "a &lt; b" in shown and "\x1b" not in shown
    assert '<iframe sandbox="" ' in shown and "Looking ahead" not in shown.split("<iframe")[0]
    assert "<script" not in shown and "&lt;html" in shown.split("srcdoc=", 1)[1]


def test_what_a_run_measured_is_in_tables_with_a_plot_each(outcome: RunOutcome) -> None:
    evidence = outcome.evidence
    drift = evidence.drift
    assert not drift.empty and set(drift["drifted"]) == {True, False} and drift["moved"].between(0, 1).all()
    assert len(evidence.plot_drift().patches) == len(drift)
    trials = evidence.trials
    assert not trials.empty and trials.groupby("engine")["best"].last().equals(trials.groupby("engine")["value"].max())
    assert len(evidence.plot_trials().lines) == 2 * trials["engine"].nunique()
    canary = evidence.canary
    assert canary["requests"].is_monotonic_increasing and canary["verdict"].iloc[-1] == "promote"
    drawn = evidence.plot_canary()
    assert len(drawn.collections) == 1 and drawn.get_title() == "Canary (above 0: better)"
    assert canary["low"].iloc[-1] > -0.02, "promoted: better, or worse by less than the tolerance"


def test_what_was_not_measured_is_an_empty_table(tmp_path: Path) -> None:
    evidence = notebook.Evidence(quiet_run(tmp_path).write())
    assert evidence.canary.empty and list(evidence.canary.columns) == ["requests", "low", "high", "verdict"]
    assert evidence.trials.empty and set(evidence.drift["drifted"]) == {False}


def test_outside_a_notebook_nothing_changes() -> None:
    def listener(record: Any) -> None: ...

    assert notebook.in_the_cell(listener) == (listener, None)
    assert notebook.in_the_cell(None) == (None, None)


def test_a_notebook_without_a_listener_shows_progress_and_asks_in_the_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(notebook, "_kernel", lambda: SimpleNamespace(_allow_stdin=True))
    listener, prompt = notebook.in_the_cell(None)
    assert listener is not None and prompt is not None
    promoted_run(tmp_path, listener=listener)
    assert "Data Guardian: Detect drift" in capsys.readouterr().out


def test_where_a_front_end_takes_no_input_the_question_is_told_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "_kernel", lambda: SimpleNamespace(_allow_stdin=False))
    heard: list[Any] = []
    listener, prompt = notebook.in_the_cell(heard.append)
    assert listener is not None and prompt is None
    asked = {"kind": "approval_requested", "call_id": "c1", "approval": approval().model_dump()}
    listener(asked)
    assert heard == [asked]
    assert f"mlops-crew approve {approval().id}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("y", True), ("n", False), ("", False), ("y version=3", Edited({"version": "3"}))],
)
def test_a_line_below_the_cell_answers(typed: str, meant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(builtins, "input", lambda _: typed)
    assert cell_prompt(screen)(approval(), lambda: False) == meant
    assert "Makes the challenger the champion." in screen.written


def test_an_empty_line_chooses_nothing_and_the_question_is_put_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["", "2", "it is cheaper"])
    monkeypatch.setattr(builtins, "input", lambda _: next(lines))
    screen = Screen()
    assert cell_prompt(screen)(choice(), lambda: False) == Pick("latency", "it is cheaper")
    assert "That is no choice" in screen.written


def test_what_was_answered_elsewhere_is_not_answered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []

    def enter(_: str) -> str:
        done.append(True)
        return "y"

    monkeypatch.setattr(builtins, "input", enter)
    answered: Callable[[], bool] = lambda: bool(done)  # noqa: E731
    assert cell_prompt(Screen())(approval(), answered) is None
