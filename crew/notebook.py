"""A run in a notebook: progress and questions in the cell, and afterwards its evidence as tables and plots.

Outside a notebook nothing here does anything but `Evidence`, which reads a finished run from anywhere.
"""

import html
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.core.channels import Prompt
from tools.core.clean import clean_line
from tools.core.journal import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from crew.mlops_crew import RunOutcome

Listener = Callable[[Record], None]
QUESTIONS = ("approval_requested", "approval_decided")
REPORT_HEIGHT_PX = 700
RED, GREY, BLUE = "#b3261e", "#9aa0a6", "#1a56b0"


def in_the_cell(listener: Listener | None) -> tuple[Listener | None, Prompt | None]:
    """What shows a run in the cell that runs it, and what asks its questions there.

    Args:
        listener: of the caller; without one the run's progress is shown line by line.

    Returns:
        The listener, which tells of questions too where the front end takes no input, and the prompt (None there).
        Outside a notebook: the listener as it is, and None.
    """
    kernel = _kernel()
    if kernel is None:
        return listener, None
    from crew.display import Display
    from crew.prompt import cell_prompt

    display = Display(sys.stdout, plain=True)
    prompt = cell_prompt(display) if getattr(kernel, "_allow_stdin", False) else None
    if listener is None:
        return display, prompt
    given = listener

    def tells_questions(record: Record) -> None:
        if record["kind"] in QUESTIONS:
            display(record)
        given(record)

    return (tells_questions if prompt is None else given), prompt


def _kernel() -> Any:
    """The kernel that this process is; None where it is none."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


def outcome_html(outcome: "RunOutcome") -> str:
    """How a run ended, with its report in a frame; the report runs no script."""
    from crew.words import headline

    words, _ = headline(outcome.outcome, outcome.production)
    head = f"<p><b>{html.escape(words)}</b><br>{html.escape(clean_line(outcome.summary))}</p>"
    if outcome.report is None:
        return head
    page = html.escape(outcome.report.read_text(encoding="utf-8"), quote=True)
    style = f"width:100%;height:{REPORT_HEIGHT_PX}px;border:1px solid #ddd"
    return (
        f"{head}<details><summary>Report of run {html.escape(outcome.run_id)}</summary>"
        f'<iframe sandbox="" style="{style}" srcdoc="{page}"></iframe></details>'
    )


class Evidence:
    """What a run measured, from its journal and the files that it names.

    Args:
        folder: of the run.

    The plots want matplotlib, which MLflow brings; each takes an `Axes` to draw on, or makes one, and returns it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def facts(self) -> dict[str, Any]:
        """All that the report shows, as in `report.json`."""
        from crew.report.collect import read_run
        from crew.report.render import report_facts

        return report_facts(read_run(self._folder))

    @property
    def drift(self) -> "pd.DataFrame":
        """A row per column: `moved` (share of the rows, 0 to 1), `p_value` (of all columns together), `drifted`,
        `importance` to the champion, and what changed in words. Empty where drift was not judged."""
        rows = [
            {
                "column": found["column"], "drifted": judged["drifted"], "moved": judged["effect"],
                "p_value": judged["adjusted_p"], "importance": judged.get("importance"), "change": judged.get("change"),
            }
            for found in (self.facts["drift"] or {}).get("columns", []) if (judged := found["judge"])
        ]  # fmt: skip
        return _table(rows, ["column", "drifted", "moved", "p_value", "importance", "change"])

    @property
    def trials(self) -> "pd.DataFrame":
        """A row per trial of every search: `engine`, `trial`, `family`, `value` (None: it failed), `best` so far."""
        rows: list[dict[str, Any]] = []
        for study in self.facts["searches"]:
            better = max if study["direction"] == "maximize" else min
            best: float | None = None
            for trial in study["trials"]:
                value = trial["value"]
                best = value if best is None else best if value is None else better(best, value)
                found = {"engine": study["engine"], "trial": trial["number"], "family": trial["family"]}
                rows.append({**found, "value": value, "best": best})
        return _table(rows, ["engine", "trial", "family", "value", "best"])

    @property
    def canary(self) -> "pd.DataFrame":
        """A row per look of the judge: `requests` so far, by how much the challenger is better (the champion's loss
        minus its) as an interval from `low` to `high` (None while there is too little), and the `verdict`. Empty where
        no canary was judged."""
        looks = ((self.facts["canary"] or {}).get("trajectory") or {}).get("looks", [])
        rows = [
            {
                "requests": look.get("requests"), "low": look.get("difference_low"),
                "high": look.get("difference_high"), "verdict": look.get("verdict"),
            }
            for look in looks
        ]  # fmt: skip
        return _table(rows, ["requests", "low", "high", "verdict"])

    def plot_drift(self, axes: "Axes | None" = None) -> "Axes":
        """How many of the rows moved, column by column; what drifted is red."""
        axes = axes or _axes()
        found = self.drift.sort_values("moved")
        axes.barh(found["column"], 100 * found["moved"], color=[RED if bad else GREY for bad in found["drifted"]])
        axes.set(xlabel="rows that moved, %", title="Drift (red: more than chance explains)")
        return axes

    def plot_trials(self, axes: "Axes | None" = None) -> "Axes":
        """What each trial reached, one after another, and the best of its search so far."""
        axes = axes or _axes()
        start = 0
        for engine, found in self.trials.groupby("engine", sort=False):
            place = range(start, start + len(found))
            axes.plot(place, found["value"], "o", alpha=0.6, label=f"{engine}: trials")
            axes.plot(place, found["best"], drawstyle="steps-post", label=f"{engine}: best so far")
            start += len(found)
        metric = next((study["metric"] for study in self.facts["searches"]), "")
        axes.set(xlabel="trial", ylabel=metric, title="Searches")
        axes.legend()
        return axes

    def plot_canary(self, axes: "Axes | None" = None) -> "Axes":
        """The interval of the difference, look by look; above zero the challenger is better."""
        axes = axes or _axes()
        found = self.canary.astype({"low": float, "high": float}).dropna()
        axes.fill_between(found["requests"], found["low"], found["high"], alpha=0.3, color=BLUE)
        axes.axhline(0, color=GREY)
        measure = ((self.facts["canary"] or {}).get("trajectory") or {}).get("measure") or "loss"
        axes.set(xlabel="requests", ylabel=f"{measure}:\nchampion - challenger", title="Canary (above 0: better)")
        return axes


def _table(rows: list[dict[str, Any]], columns: list[str]) -> "pd.DataFrame":
    import pandas as pd

    # Names and words come from data: what a notebook shows is cleaned as everywhere.
    cleaned = [{k: clean_line(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return pd.DataFrame(cleaned, columns=pd.Index(columns))


def _axes() -> "Axes":
    from matplotlib import pyplot

    return pyplot.subplots()[1]
