"""`mlops-crew run`: one run of the crew, shown while it happens."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from crew.commands.console import CommandError, Place, ProjectOption, place_of, say, shown
from crew.commands.ending import end_at_once, note_status

if TYPE_CHECKING:
    from crew.display import Display
    from crew.mlops_crew import MlopsCrew, RunOutcome

SAME_PRESS_S = 0.4  # a terminal and a parent process may both deliver one Ctrl-C
STOPPED = 130
DEFAULT_GOAL = "config/goal.yaml"


def run(
    goal: Annotated[str, typer.Argument(help="The goal file.", show_default=DEFAULT_GOAL)] = "",
    goal_option: Annotated[str, typer.Option("--goal", metavar="FILE", help="The goal file, as an option.")] = "",
    seed: Annotated[int, typer.Option(help="Of everything random: same seed, same data, same decisions.", min=0)] = 0,
    process: Annotated[
        Literal["sequential", "hierarchical"], typer.Option(help="How the tasks reach the agents.")
    ] = "sequential",
    autonomy: Annotated[
        Literal["observe", "supervised", "autonomous"] | None,
        typer.Option(help="What the agents may do on their own (default: what policy.yaml says)."),
    ] = None,
    runbook: Annotated[bool, typer.Option("--runbook", help="Follow the runbooks even if MODEL is set.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another run that may change production of the model.")
    ] = False,
    project: ProjectOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON at the end; progress goes to stderr.")
    ] = False,
) -> int:
    """Run the crew on a goal: check the data, find drift, retrain, canary, promote or roll back.

    Exit codes: 0 the crew decided, 1 failed, 2 wrong use or configuration, 3 the data was rejected, 4 nobody chose
    where a person was to, 5 suspended (it goes on with `mlops-crew resume`), 130 stopped.
    """
    if goal and goal_option:
        raise CommandError("give the goal once: as an argument or with --goal", code=2)
    note_status(f"running {os.getpid()}")
    place = place_of(project)
    goal_file = _find_goal(place, goal or goal_option)
    _have_sample(place, goal_file)

    from crew.display import Display, terminal_prompt
    from crew.mlops_crew import MlopsCrew
    from tools.core.policy import Level

    with stdout_for_result(as_json) as write_result:
        display = Display(sys.stderr if as_json else sys.stdout)
        crew = MlopsCrew(
            goal_file,
            project=place.project,
            process=process,
            seed=seed,
            autonomy=Level(autonomy) if autonomy else None,
            on_record=display,
            prompt=terminal_prompt(display) if sys.stdin.isatty() else None,
            runbook=runbook,
            wait_s=float("inf") if wait else 0.0,
        )
        return play(crew, display, write_result if as_json else None)


def play(crew: "MlopsCrew", display: "Display", write_result: Callable[[str], None] | None) -> int:
    """Run a crew to its end, shown while it happens, and return the exit code.

    Args:
        write_result: is given the result as JSON.
    """
    report: Path | None = None
    try:
        with _stoppable(crew, display):
            outcome = crew.run()
            report = outcome.report
    except KeyboardInterrupt:
        return STOPPED
    finally:
        display.close(report)
    if write_result is not None:
        import json

        write_result(json.dumps(_as_json(outcome), indent=2, default=str) + "\n")
    return outcome.exit_code


def _find_goal(place: Place, given: str) -> Path:
    """The goal file: from where the user is, else from the project's folder."""
    if not given:
        return place.project / DEFAULT_GOAL
    path = Path(given).expanduser()
    here = path if path.is_absolute() else Path.cwd() / path
    return here if here.exists() else place.project / path


def _have_sample(place: Place, goal_file: Path) -> None:
    """Write the simulated sample where a goal is about it and it was never written, and say so.

    Raises:
        CommandError: the goal names another file in its folder, or one of its files is gone.
    """
    from crew.goal import load_goal

    data = load_goal(goal_file, place.env).data
    folder = place.project / "sample"
    named = [place.project / Path(value).expanduser() for value in (data.reference, data.current, data.source) if value]
    missing = [path for path in named if path.is_relative_to(folder) and not path.is_file()]
    if not missing:
        return
    from crew.sample import DATA_FILES, write_sample

    own = [folder / name for name in DATA_FILES]
    if not set(missing) <= set(own) or any(path.exists() for path in own):
        files = " and ".join(DATA_FILES)
        raise CommandError(
            f"{goal_file}: there is no file {shown(missing[0])}; `mlops-crew sample` writes {files} there", code=2
        )
    write_sample(folder)
    say(
        f"There was no sample data yet: SIMULATED customers of a phone company, who drift over three weeks, were "
        f"written to {shown(folder)}. For your own data change the section data of {shown(goal_file)}.",
        sys.stderr,
    )


@contextlib.contextmanager
def stdout_for_result(only: bool) -> Generator[Callable[[str], None]]:
    """With `only`, standard output is kept for what is given to the yielded function, whatever prints meanwhile."""
    if not only:
        yield lambda _text: None
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield lambda text: _write_whole(kept, text.encode())
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _write_whole(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


@contextlib.contextmanager
def _stoppable(crew: "MlopsCrew", display: "Display") -> Generator[None]:
    """Ctrl-C, SIGTERM and a terminal that hangs up stop the run cleanly; the second time they end it at once."""
    asked_at: list[float] = []

    def tell() -> None:
        display.pause()
        display.write("\n  Stopping after the step under way; press Ctrl-C again to end at once.\n\n")
        display.resume()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not asked_at:
            asked_at.append(now)
            crew.stop()
            threading.Thread(target=tell, daemon=True).start()  # the interrupted thread may hold the display's lock
        elif now - asked_at[0] > SAME_PRESS_S:
            end_at_once(STOPPED, display.close)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(outcome: "RunOutcome") -> dict[str, Any]:
    return {
        "run_id": outcome.run_id,
        "outcome": outcome.outcome,
        "summary": outcome.summary,
        "production": outcome.production,
        "exit_code": outcome.exit_code,
        "folder": str(outcome.folder),
        "report": str(outcome.report) if outcome.report else None,
        "results": {task: result.model_dump(mode="json") for task, result in outcome.results.items()},
    }
