"""The crew as a whole: opens the gateway, runs the tasks, writes the report, and leaves nothing behind.

From a notebook: `MlopsCrew(goal="config/goal.yaml").run()`.
"""

import importlib.metadata
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from crew import notebook
from crew.environment import prepare
from crew.goal import PATHS, ModelSettings, load_goal
from crew.outcome import EXIT_CODES, Outcome, outcome_of
from crew.reconcile import reconcile
from crew.resuming import Answered, Recorded, changed_goal, pick_up, read_recorded
from crew.roles import load_roles
from crew.run import Run
from crew.stopping import RunStopped, Stopping, end_after_failure, end_at_stable
from tasks.base import TaskFailedError, TaskResult
from tasks.goal import Goal
from tools.core.channels import Prompt
from tools.core.errors import ToolError, in_words
from tools.core.gateway import Gateway
from tools.core.journal import Journal, JournalError, Record
from tools.core.locks import Holder, ProductionLocks
from tools.core.policy import Level, Policy
from tools.core.stack import Stack, read_env
from tools.core.waiting import Suspended
from tools.core.yamlfile import ConfigError
from tools.registry import INTEGRATIONS, load_spec
from tools.session import new_run_id, open_gateway, open_stack, project_folder, state_folder

POLL_S = 0.2
PATIENCE_S = 120.0  # that a question may go unanswered where nobody sits at a terminal, before the run is suspended
SHOWN_VERSIONS = ("crewai", "mcp", "mlflow", "optuna", "hyperopt", "evidently", "great-expectations", "scikit-learn")


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Args:
        outcome: what was decided.
        summary: one or two sentences; of a run that failed after it had changed production, first what that serves.
        exit_code: 0 for every decision the crew may take, 1 failed, 3 data rejected, 4 nobody chose, 5 suspended, 130
            stopped.
        results: task name -> its typed result; tasks that were skipped are not in it.
        report: the HTML report, None when it could not be written.
        production: what production serves after such a failure; empty otherwise.

    In a notebook it shows itself with the report; `evidence` gives tables and plots.
    """

    run_id: str
    outcome: Outcome
    summary: str
    exit_code: int
    folder: Path
    report: Path | None = None
    results: dict[str, TaskResult] = field(default_factory=dict[str, TaskResult])
    production: str = ""

    @cached_property
    def evidence(self) -> notebook.Evidence:
        """What the run measured, as tables and plots."""
        return notebook.Evidence(self.folder)

    def _repr_html_(self) -> str:
        return notebook.outcome_html(self)


class MlopsCrew:
    """Runs one goal with the crew.

    Args:
        goal: a goal file (relative to the project) or a `Goal`; `config/goal.yaml` by default.
        project: the project folder; found from the working directory by default.
        process: `sequential`, or `hierarchical` with the manager of agents.yaml.
        seed: of everything random; the same seed on the same data repeats every decision.
        autonomy: instead of the level in policy.yaml.
        on_record: called with every journal record and progress report, possibly from other threads; in a notebook,
            without one, progress is shown in the cell.
        prompt: asks for approvals in the terminal; without it a notebook asks in the cell, and elsewhere they wait for
            `mlops-crew approve`.
        runbook: ignore MODEL and follow the runbooks.
        patience_s: seconds that a question may go unanswered before the run is suspended, where `prompt` is None; None:
            it is waited for until it expires.
        wait_s: seconds to wait for another run that may change production of the model.

    Raises:
        ConfigError: a configuration file is missing or wrong; nothing has been done.
    """

    def __init__(
        self,
        goal: "str | Path | Goal" = "config/goal.yaml",
        *,
        project: Path | None = None,
        process: Literal["sequential", "hierarchical"] = "sequential",
        seed: int = 0,
        autonomy: Level | None = None,
        on_record: Callable[[Record], None] | None = None,
        prompt: Prompt | None = None,
        runbook: bool = False,
        patience_s: float | None = PATIENCE_S,
        wait_s: float = 0.0,
    ) -> None:
        self.project = (project or project_folder()).resolve()
        if prompt is None:
            on_record, prompt = notebook.in_the_cell(on_record)
        self.run_id = new_run_id()
        self.process: Literal["sequential", "hierarchical"] = process
        self.seed = seed
        self._goal_path = None if isinstance(goal, Goal) else self.project / goal
        self._home = state_folder(self.project, read_env(self.project))
        self._env = prepare(self.project, self._home)
        self.goal = goal if isinstance(goal, Goal) else load_goal(self.project / goal, self._env)
        self.model = ModelSettings.from_env({} if runbook else self._env)
        policy_path = self.project / "config" / "policy.yaml"
        self._policy = Policy.load(policy_path, self._env)
        if autonomy is not None:
            self._policy = self._policy.with_level(autonomy)
        stack = open_stack(self.project, self._env)
        self.roles = load_roles(
            self.project / "config", {name: stack.spec(name) for name in stack.names}, self.goal.placeholders()
        )
        # A misspelt name under `forbid` would forbid nothing.
        self._policy.check(
            [stack.load_spec(name) for name in stack.own], stack.third_party, str(policy_path),
            roles=self.roles.agents, tasks=self.roles.tasks,
        )  # fmt: skip
        self._check_data_files()
        self._on_record = on_record
        self._prompt = prompt
        self._run: Run | None = None
        self._stopping = Stopping()
        self._autonomy = autonomy
        self._wait_s = wait_s
        self._patience_s = patience_s if prompt is None else None
        self._recorded: Recorded | None = None
        self._leaves_something = False  # in production, for the run to find again
        self._said: dict[str, Answered] = {}

    @classmethod
    def resumed(
        cls,
        run_id: str,
        *,
        project: Path | None = None,
        on_record: Callable[[Record], None] | None = None,
        prompt: Prompt | None = None,
        patience_s: float | None = PATIENCE_S,
        said: dict[str, Answered] | None = None,
    ) -> "MlopsCrew":
        """A run that was cut off or suspended, ready to `run` on: its goal, seed, level and identity from its journal.

        Args:
            said: call id -> what a person says of a call that may or may not have happened.

        Raises:
            NotResumable: there is no such run, or it has ended.
            ConfigError, JournalError: as for a new run.
        """
        project = (project or project_folder()).resolve()
        recorded = read_recorded(state_folder(project, read_env(project)) / "runs" / run_id)
        started = recorded.started
        level = started.get("autonomy_asked")
        crew = cls(
            Goal.model_validate(started["goal"]), project=project, process=started["process"], seed=started["seed"],
            autonomy=Level(level) if level else None, on_record=on_record, prompt=prompt,
            runbook=started["mode"] == "runbook", patience_s=patience_s,
        )  # fmt: skip
        crew.run_id, crew._recorded, crew._said = run_id, recorded, said or {}
        crew._goal_path = Path(started["goal_path"]) if started.get("goal_path") else None
        return crew

    @classmethod
    def resume(cls, run_id: str, **options: Any) -> RunOutcome:
        """Go on with a run that was cut off or suspended, to its end. `options`: as for `resumed`."""
        return cls.resumed(run_id, **options).run()

    @property
    def folder(self) -> Path:
        """Where the run's journal, files and report are."""
        return self._home / "runs" / self.run_id

    def run(self) -> RunOutcome:
        """Run the loop to its end. Never raises for what the loop met: that is in the outcome.

        Raises:
            LockedError: another run may change production of the model; nothing was done.
            JournalError: the journal cannot be written, so nothing may be done.
        """
        locks = ProductionLocks(self._home, self.run_id, self._policy.environment)
        left = locks.acquire(self.goal.registered_model, self._wait_s)
        suspended = False
        try:
            outcome = self._under_lock(locks, left)
            suspended = outcome.outcome == "suspended"
            return outcome
        finally:
            locks.release(reserve=suspended and self._leaves_something)

    def _under_lock(self, locks: ProductionLocks, left: Holder | None) -> RunOutcome:
        started = time.monotonic()
        gateway = open_gateway(
            self.project, run_id=self.run_id, prompt=self._prompt, policy=self._policy, env=self._env,
            preferences=self.goal.stated, data=self.goal.files, data_roots=self.goal.data.roots,
            patience_s=self._patience_s, locks=locks,
        )  # fmt: skip
        if self._on_record is not None:
            gateway.journal.subscribe(self._on_record)
        outcome: Outcome
        production = ""
        try:
            self._journal_start(gateway)
            if left is not None:
                gateway.journal.append("lock", model=left.model, taken_over=str(left))
            if self._recorded is not None:
                pick_up(gateway, self._recorded, self._said)
            else:
                reconcile(gateway, self.goal.registered_model, self._home)
            outcome, summary, results = self._loop(gateway)
        except Suspended as waits:
            gateway.journal.append("run_suspended", wait=waits.wait.data(), in_runbook=waits.in_runbook)
            outcome, summary, results = "suspended", waits.wait.what, self._results()
        except RunStopped as stopped:
            outcome, summary, results = "stopped", f"{stopped} {end_at_stable(gateway)}", self._results()
        except (TaskFailedError, ConfigError, ToolError, JournalError) as error:
            production = end_after_failure(gateway)
            outcome, summary, results = "failed", f"{production} {error}".strip(), self._results()
        finally:
            self._leaves_something = bool(gateway.in_force)
            gateway.close()
        exit_code = EXIT_CODES.get(outcome, 0)
        took_s = time.monotonic() - started
        report = self._close_run(gateway.journal, outcome, summary, exit_code, took_s, production)
        return RunOutcome(self.run_id, outcome, summary, exit_code, self.folder, report, results, production)

    def stop(self) -> None:
        """Ask the run to stop; it ends after the step under way, or after the task where that must not be cut."""
        self._stopping.ask()

    def _loop(self, gateway: Gateway) -> tuple[Outcome, str, dict[str, TaskResult]]:
        """Run the tasks in a thread of their own, so that a stop, and a notebook's event loop, do not meet CrewAI."""
        run = self._run = Run(
            goal=self.goal,
            roles=self.roles,
            gateway=gateway,
            seed=self.seed,
            installed=frozenset(name for name in INTEGRATIONS if not load_spec(name).missing()),
            price_per_mtok=self.model.price_per_mtok,
            recorded=self._recorded,
        )
        self._stopping.switch = gateway.stop_switch
        failure: list[BaseException] = []

        def work() -> None:
            try:
                from crew.assembly import build_crew

                build_crew(run, self.model, self.process).kickoff()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                failure.append(error)

        worker = threading.Thread(target=work, name="crew", daemon=True)
        worker.start()
        while worker.is_alive():
            try:
                worker.join(POLL_S)
                self._stop(run)
            except KeyboardInterrupt:
                if self._stopping.asked_here:
                    raise  # asked twice: do not wait for anything
                self._stopping.ask()
        why = self._stopping.why()
        if run.fatal is not None:
            # A stop that is on refuses the calls of the task under way, which then fails: the stop is the cause.
            if why and isinstance(run.fatal, TaskFailedError):
                raise RunStopped(f"{why} {run.fatal}") from run.fatal
            raise run.fatal
        if failure:
            if why:
                raise RunStopped(why) from failure[0]
            raise TaskFailedError(in_words(failure[0])) from failure[0]
        return *outcome_of(run.results), run.results

    def _stop(self, run: Run) -> None:
        """End the run if a stop was asked for. Asked again and again, until a task that must not be cut is done."""
        current = run.current
        why = self._stopping.why(current.task if current else None)
        if not why or (current is not None and self.roles.definitions[current.task].atomic):
            return
        if run.fatal is None:
            run.fatal = RunStopped(why)
        run.gateway.stop()

    def _results(self) -> dict[str, TaskResult]:
        return self._run.results if self._run is not None else {}

    def _check_data_files(self) -> None:
        """A missing file is told before anything starts, with the key that names it."""
        data = self.goal.data
        for key in PATHS:
            value = getattr(data, key)
            if value and not (self.project / Path(value).expanduser()).is_file():
                where = self._goal_path or "the goal"
                raise ConfigError(f"{where}: data.{key}: no such file: {self.project / value}")

    def _journal_start(self, gateway: Gateway) -> None:
        if self._recorded is not None:
            path = self._goal_path
            now = load_goal(path, self._env).model_dump(mode="json") if path is not None and path.is_file() else None
            gateway.journal.append(
                "run_resumed", run_id=self.run_id, open_task=self._recorded.open_task, versions=_versions(),
                changed_goal=changed_goal(self._recorded, now),
            )  # fmt: skip
            return
        gateway.journal.append(
            "run_started", run_id=self.run_id, goal=self.goal.model_dump(mode="json"),
            goal_path=str(self._goal_path) if self._goal_path else None, seed=self.seed, process=self.process,
            mode="runbook" if self.model.name is None else "llm", model=self.model.name, mode_note=self.model.note,
            versions=_versions(), autonomy=_autonomy(self._policy, gateway.stack),
            autonomy_asked=self._autonomy.value if self._autonomy is not None else None,
        )  # fmt: skip

    def _close_run(
        self, journal: Journal, outcome: Outcome, summary: str, exit_code: int, duration_s: float, production: str
    ) -> Path | None:
        """Record the end and write the report. A disk that is full must not hide how the run ended."""
        from crew.report import write_report

        try:
            if outcome == "failed":
                journal.append("error", message=summary)
            if outcome != "suspended":
                journal.append(
                    "run_finished", outcome=outcome, summary=summary, exit_code=exit_code,
                    duration_s=round(duration_s, 3), **({"production": production} if production else {}),
                )  # fmt: skip
            return write_report(self.folder).html
        except (JournalError, OSError):
            return None
        finally:
            journal.close()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _autonomy(policy: Policy, stack: Stack) -> dict[str, str]:
    """Integration -> the level in force."""
    return {name: policy.level(name, stack.is_real(name)).value for name in stack.names}
