"""Runs the trials of a search, keeps their records and budget, and reports the result: the same for every engine."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.core.errors import FinalError, FixableError
from tools.modeling.constraints import broken_words, read_constraints, total_violation, violations
from tools.modeling.data import Task, check_task
from tools.modeling.metrics import Metric, get_metric
from tools.modeling.models import Config, complete_config
from tools.modeling.pareto import pareto_front, spread_of
from tools.modeling.search import ParetoPoint, SearchArgs, SearchConstraints, SearchResult, TuneArgs
from tools.modeling.training import NestedScore, Split, UnusableConfig, load_split, score_config, score_nested
from tools.modeling.trials import Trial, Trials, write_trials

COMPLETE = "complete"
FAILED = "failed"
SHOWN_PARETO = 8

Progress = Callable[[float, float | None, str], None]


def run_trial(
    number: int,
    config: Config,
    split: Split,
    metric: str,
    seed: int,
    constraints: SearchConstraints = SearchConstraints(),  # noqa: B008 - frozen
) -> Trial:
    """Train and score one config. A config that cannot be trained is a failed trial with its `problem`.

    Raises:
        FixableError: no config can be scored here (the metric needs two classes, the validation rows hold one).
    """
    started = time.perf_counter()
    try:
        scored = score_config(config, split, metric, seed, constraints.max_latency_ms)
    except UnusableConfig as error:
        return failed_trial(number, config, str(error), _since(started))
    return Trial(
        number=number,
        value=scored.value,
        state=COMPLETE,
        config=config,
        duration_s=_since(started),
        latency_ms=round(scored.latency_ms, 3),
        latency_ms_p95=round(scored.latency_ms_p95, 3),
        size_bytes=scored.size_bytes,
        block_values=scored.block_values,
        fairness_gap=scored.fairness_gap,
        violations=violations(
            constraints,
            latency_ms=scored.latency_ms_p95,
            size_bytes=scored.size_bytes,
            fairness_gap=scored.fairness_gap,
        ),
    )


def failed_trial(number: int, config: Config, problem: str, duration_s: float | None = None) -> Trial:
    """The record of a trial that has no value, with the reason."""
    facts = {"number": number, "state": FAILED, "config": config, "duration_s": duration_s, "problem": problem}
    return Trial.model_validate(facts)


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)


def _problem(trial: Trial) -> str:
    return str((trial.model_extra or {}).get("problem", "unknown reason"))


def _point(trial: Trial) -> ParetoPoint:
    return ParetoPoint(
        trial=trial.number,
        family=trial.config["family"],
        value=trial.value or 0.0,
        latency_ms=trial.latency_ms or 0.0,
        size_bytes=int(trial.size_bytes or 0),
        fairness_gap=trial.fairness_gap,
    )


class TrialRunner:
    """The trials of one search.

    Args:
        constraints: those that are met win against those that are not.
        trials, minutes: the budget; trials of an earlier, interrupted call count, its minutes do not.
        progress: told after each trial, as `CallContext.progress`.
    """

    def __init__(
        self,
        split: Split,
        metric: Metric,
        seed: int,
        *,
        trials: int,
        minutes: float,
        progress: Progress,
        constraints: SearchConstraints = SearchConstraints(),  # noqa: B008 - frozen
    ) -> None:
        self.constraints = constraints
        self.split = split
        self.metric = metric
        self.seed = seed
        self.budget = trials
        self.records: list[Trial] = []
        self.tell_progress = progress
        self._ends = time.monotonic() + 60.0 * minutes

    @property
    def task(self) -> Task:
        """The task of the data."""
        return self.split.task

    @property
    def remaining(self) -> int:
        """Trials left in the budget."""
        return max(0, self.budget - len(self.records))

    @property
    def remaining_s(self) -> float:
        """Seconds left in the budget."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def may_start(self) -> bool:
        """Whether another trial may start. The first always may: a search without a trial has no result."""
        return not self.records or (self.remaining > 0 and self.remaining_s > 0)

    def run(self, config: Config) -> Trial:
        """Run the next trial here and record it."""
        trial = run_trial(len(self.records), config, self.split, self.metric.name, self.seed, self.constraints)
        self.record(trial)
        return trial

    def record(self, trial: Trial) -> None:
        """Add a trial that was run elsewhere or earlier."""
        self.records.append(trial)

    def report(self) -> None:
        """Tell the caller about the newest trial; `CallCancelled` passes."""
        trial = self.records[-1]
        best = self.best()
        value = f"failed ({_problem(trial)})"
        if trial.value is not None:
            value = f"{self.metric.name} {trial.value:.4g}"
        so_far = "" if best is None else f", best {best.value:.4g}"
        family = trial.config.get("family", "")
        self.tell_progress(len(self.records), self.budget, f"trial {trial.number + 1}: {family} {value}{so_far}")

    def best(self) -> Trial | None:
        """The best trial that keeps to the constraints; where none does, the one nearest to them; None when none
        completed. Of equals the earlier, so that only a better one replaces the start."""
        done = [trial for trial in self.records if trial.value is not None]

        def key(trial: Trial) -> tuple[float, float, int]:
            return -total_violation(trial.violations), self.metric.sign * (trial.value or 0.0), -trial.number

        return max(done, key=key, default=None)

    def finish(self, study: str, engine: str, folder: Path, show: Callable[[Path], str]) -> SearchResult:
        """Write the trials file into `folder` and say what was found. Trial 0 is the config it started from.

        Raises:
            FinalError: no trial completed; says why the first failed.
        """
        best = self.best()
        start = next((trial for trial in self.records if trial.number == 0), None)
        front = pareto_front(self.records, self.metric.sign)
        path = folder / f"trials-{engine}-{study}.json"
        write_trials(
            Trials(
                study=study,
                metric=self.metric.name,
                direction=self.metric.direction,
                seed=self.seed,
                engine=engine,
                trials=self.records,
                best=None if best is None else best.number,
                pareto=[trial.number for trial in front],
            ),
            path,
        )
        if best is None or best.value is None:
            raise FinalError(
                f"none of {len(self.records)} trials could be trained; the first: {_problem(self.records[0])}",
                tried=show(path),
            )
        start_value = start.value if start else None
        completed = sum(trial.value is not None for trial in self.records)
        nested, nested_start = self._nested(best), self._nested(start)
        gain = "" if start_value is None else f", {start_value:.4g} at the start"
        said = [
            f"Best {self.metric.name} {best.value:.4g}{gain}: {best.config['family']} "
            f"(trial {best.number + 1} of {len(self.records)}, {len(self.records) - completed} failed).",
            self._constrained(best),
            self._curse(nested.value, nested_start.value),
            self._fairness(best, nested),
        ]
        return SearchResult(
            study=study,
            metric=self.metric.name,
            direction=self.metric.direction,
            best_value=best.value,
            best_config=best.config,
            start_value=start_value,
            nested_value=nested.value,
            nested_start_value=nested_start.value,
            feasible=best.feasible,
            violations=best.violations,
            fairness_gap=best.fairness_gap,
            nested_fairness_gap=nested.fairness_gap,
            pareto=[_point(trial) for trial in spread_of(front, SHOWN_PARETO)],
            completed=completed,
            failed=len(self.records) - completed,
            stopped_by="minutes" if self.remaining else "trials",
            trials_path=show(path),
            message=" ".join(filter(None, said)),
        )

    def _nested(self, trial: Trial | None) -> NestedScore:
        if trial is None or trial.value is None:
            return NestedScore()
        return score_nested(trial.config, self.split, self.metric.name, self.seed)

    def _constrained(self, best: Trial) -> str:
        """How many trials keep to the constraints; where none does, what the nearest one breaks."""
        if not best.violations:
            return ""
        kept = sum(trial.feasible for trial in self.records)
        if kept:
            return f"{kept} of {len(self.records)} trials keep to the constraints."
        return f"NO trial keeps to the constraints; this one is nearest: {broken_words(best, self.constraints)}."

    def _fairness(self, best: Trial, nested: NestedScore) -> str:
        """The best trial's gap, and which groups it leaves out."""
        fairness, audit = self.constraints.fairness, self.split.audit
        if fairness is None or audit is None:
            return ""
        if best.fairness_gap is None:
            return f"The fairness gap by {fairness.column} cannot be computed. {audit.note}".strip()
        later = "" if nested.fairness_gap is None else f", {nested.fairness_gap:.3g} on the newest rows"
        gap = f"Fairness gap ({fairness.measure} by {fairness.column}) {best.fairness_gap:.3g}{later}."
        return f"{gap} {audit.note}".strip()

    def _curse(self, value: float | None, start: float | None) -> str:
        """What the best trial is worth on rows that did not choose it."""
        if self.split.nested is None:
            return "Too few rows to hold any back from the search: expect less than this value."
        rows = f"the {len(self.split.nested)} newest rows, which no trial saw"
        if value is None:
            return f"On {rows}, {self.metric.name} cannot be computed."
        compared = "" if start is None else f", {start:.4g} at the start"
        return f"On {rows}: {value:.4g}{compared}."


def fingerprint(args: SearchArgs, paths: Sequence[Path], extra: object = None) -> str:
    """16 hex digits that name what is searched: the files' content, target, task, metric, drop list, seed, constraints.

    The budget is left out, so that a study may be continued with a larger one.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    facts: list[Any] = [args.target, args.task, args.metric, sorted(args.drop), args.seed, extra]
    if args.positive:
        facts.append(args.positive)
    if args.constraints:
        facts.append(read_constraints(args.constraints).model_dump())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Tuning:
    """What every tuner starts from: the study's name, the completed start config and a fresh runner."""

    study: str
    config: Config
    runner: TrialRunner


def prepare_tuning(args: TuneArgs, paths: Sequence[Path], progress: Progress) -> Tuning:
    """Check the arguments and read the data.

    Raises:
        FixableError: the config, metric, a file, a column or the target cannot be used.
    """
    config = complete_config(args.config, check_task(args.task))
    metric = get_metric(args.metric, check_task(args.task))
    runner = prepare_runner(args, paths, metric, progress)
    study = f"{config['family']}-{fingerprint(args, paths, config)[:8]}"
    return Tuning(study, config, runner)


def prepare_runner(args: SearchArgs, paths: Sequence[Path], metric: Metric, progress: Progress) -> TrialRunner:
    """Read the data and the constraints.

    Raises:
        FixableError: a file, a column, the target or a constraint cannot be used.
    """
    constraints = read_constraints(args.constraints)
    fairness = constraints.fairness
    split = load_split(paths, args.target, args.drop, args.task, fairness=fairness, positive=args.positive)
    if fairness and fairness.max_gap is not None and split.audit and not split.audit.possible:
        raise FixableError(
            f"fairness.max_gap cannot be checked: the {len(split.validation)} validation rows have no two groups of "
            f"{fairness.column!r} to compare. {split.audit.note} Use more rows, or no max_gap"
        )
    return TrialRunner(
        split,
        metric,
        args.seed,
        trials=args.trials,
        minutes=args.minutes,
        progress=progress,
        constraints=constraints,
    )
