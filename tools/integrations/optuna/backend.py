"""The Optuna backend."""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tools.core.bounds import parse_json
from tools.core.contract import Backend, CallContext, NoArgs
from tools.core.errors import FixableError, NoDataError, shorten
from tools.integrations.optuna.spec import (
    SAMPLERS,
    ArchitectureArgs,
    AskArgs,
    Asked,
    BestTrial,
    Studies,
    StudyArgs,
    StudySummary,
    TellArgs,
    Told,
)
from tools.integrations.optuna.studies import (
    FINGERPRINT,
    RECORD,
    StudyStore,
    best_of,
    direction_of,
    finished,
    is_feasible,
    sampler_of_trial,
)
from tools.modeling.search import SearchResult
from tools.modeling.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as LiveTrial

    from tools.modeling.trial_runner import TrialRunner

SPACE_TYPES = "float, int (low, high, optional log), categorical (choices)"


class OptunaBackend(Backend):
    """Studies in Optuna's storage."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # else a line per trial

    def health(self, ctx: CallContext) -> str:
        """Opens the storage."""
        import optuna

        store = self._store(ctx)
        return f"Optuna {optuna.__version__}, {len(store.names())} studies in {store.where}"

    def search(self, args: ArchitectureArgs, ctx: CallContext) -> SearchResult:
        """Evolution or TPE over `sample_architecture`, from the default config on; the same study name resumes."""
        from tools.modeling.data import check_task
        from tools.modeling.metrics import get_metric
        from tools.modeling.trial_runner import fingerprint, prepare_runner
        from tools.modeling.windows import check_window

        paths = [ctx.path(path) for path in args.paths]
        metric = get_metric(args.metric, check_task(args.task))
        runner = prepare_runner(args, paths, metric, ctx.progress)
        check_window(args.window)
        unusual = [value for value, usual in ((args.sampler, SAMPLERS[0]), (args.window, "all")) if value != usual]
        mark = fingerprint(args, paths, unusual or None)
        # Without a name a study belongs to its run: repeated in the run it resumes, a later run searches afresh.
        name = args.study or f"{re.sub('[^A-Za-z0-9]', '-', ctx.run_id)}-{mark[:8]}"
        store = self._store(ctx)
        with store.held(name):
            study = store.create(name, metric.direction)
            _require_same(study, mark)
            _run_trials(study, runner, args)
        return runner.finish(name, "optuna", ctx.workspace, ctx.show)

    def ask(self, args: AskArgs, ctx: CallContext) -> Asked:
        """Parameters of trial `index`; asking again for the same index returns the same ones."""
        distributions = _distributions(args.space)
        store = self._store(ctx)
        if args.index:
            study = store.open(args.study)
            if direction_of(study) != args.direction:
                raise FixableError(f"study {args.study!r} is to {direction_of(study)}, not {args.direction}")
        else:
            study = store.create(args.study, args.direction)
        if FINGERPRINT in study.user_attrs:
            raise FixableError(f"study {args.study!r} belongs to search; use another name to ask and tell")
        trials = study.get_trials(deepcopy=False)
        if args.index > len(trials):
            raise FixableError(f"study {args.study!r} has {len(trials)} trials; the next index is {len(trials)}")
        if args.index < len(trials):
            known = trials[args.index]
            if known.distributions != distributions:
                raise FixableError(f"trial {args.index} of study {args.study!r} was asked with another space")
            return Asked(study=args.study, index=args.index, params=dict(known.params))
        study.sampler = sampler_of_trial(args.seed, args.index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = study.ask(fixed_distributions=distributions)
        return Asked(study=args.study, index=trial.number, params=dict(trial.params))

    def tell(self, args: TellArgs, ctx: CallContext) -> Told:
        """Record a result; telling the same again changes nothing."""
        study = self._store(ctx).open(args.study)
        trials = study.get_trials(deepcopy=False)
        if args.index >= len(trials):
            raise FixableError(
                f"study {args.study!r} has no trial {args.index}; it has {len(trials)}, from 0; ask first"
            )
        known = trials[args.index]
        if not known.state.is_finished():
            _tell(study, args.index, args.value)
        elif known.value != args.value:
            raise FixableError(
                f"trial {args.index} of study {args.study!r} was told {known.value}; it cannot become {args.value}"
            )
        best = best_of(study)
        return Told(
            study=args.study,
            index=args.index,
            state="failed" if args.value is None else "complete",
            best_value=best.value if best else None,
            best_index=best.number if best else None,
        )

    def best_trial(self, args: StudyArgs, ctx: CallContext) -> BestTrial:
        """The best completed trial."""
        store = self._store(ctx)
        study = store.open(args.study)
        best = best_of(study)
        if best is None or best.value is None:
            raise NoDataError(f"study {args.study!r} has no completed trial", tried=store.where)
        record: dict[str, Any] = best.user_attrs.get(RECORD, {})
        completed, failed = _counts(study)
        return BestTrial(
            study=args.study,
            direction=direction_of(study),
            index=record.get("number", best.number),
            value=best.value,
            feasible=is_feasible(best),
            params=record.get("config", best.params),
            completed=completed,
            failed=failed,
        )

    def list_studies(self, args: NoArgs, ctx: CallContext) -> Studies:
        """All studies of the storage."""
        store = self._store(ctx)
        names = store.names()
        if not names:
            raise NoDataError("there are no studies yet", tried=store.where)
        summaries = [_summary(store.open(name)) for name in names]
        return Studies(studies=summaries, message=f"{len(names)} studies in {store.where}.")

    def _store(self, ctx: CallContext) -> StudyStore:
        return StudyStore(ctx.store("optuna"), self.settings.get("OPTUNA_STORAGE"))


def _require_same(study: "Study", mark: str) -> None:
    """Mark a new study as one of this search; refuse one of another."""
    if study.user_attrs.get(FINGERPRINT) != mark and study.get_trials(deepcopy=False):
        raise FixableError(
            f"study {study.study_name!r} holds trials of other data, columns, metric, constraints, seed or sampler; "
            "use another name or none"
        )
    if FINGERPRINT not in study.user_attrs:
        study.set_user_attr(FINGERPRINT, mark)


def _run_trials(study: "Study", runner: "TrialRunner", args: ArchitectureArgs) -> None:
    """The trials that the study has, then new ones until the budget ends. Trial 0 is the default config."""
    from tools.modeling.models import default_config
    from tools.modeling.space import architecture_values, sample_architecture

    for trial in _settle(study)[: args.trials]:
        runner.record(Trial.model_validate(trial.user_attrs[RECORD]))
    if runner.records:
        runner.report()
    else:
        start = default_config(runner.task, window=args.window)
        study.enqueue_trial(architecture_values(start), skip_if_exists=True)
    windows = tuple(dict.fromkeys((*runner.split.windows, args.window)))
    while runner.may_start:
        study.sampler = sampler_of_trial(args.seed, len(runner.records), args.sampler)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            live = study.ask()
            config = sample_architecture(_OptunaSuggest(live), runner.task, windows=windows)
        record = runner.run(config)
        for constraint, violation in record.violations.items():
            live.set_constraint(constraint, violation)
        live.set_user_attr(RECORD, record.model_dump(mode="json"))
        _tell(study, live.number, record.value)
        runner.report()


class _OptunaSuggest:
    """The suggest protocol over an Optuna trial."""

    def __init__(self, trial: "LiveTrial") -> None:
        self._trial = trial

    def float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return self._trial.suggest_int(name, low, high, log=log)

    def categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, choices)


def _settle(study: "Study") -> "list[FrozenTrial]":
    """Finished trials of a search, after closing those that a killed process left running."""
    from optuna.trial import TrialState

    from tools.integrations.optuna.evolution import close_interrupted

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if RECORD in trial.user_attrs:
            _tell(study, trial.number, trial.user_attrs[RECORD]["value"])
    close_interrupted(study)
    return finished(study)


def _tell(study: "Study", number: int, value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(number, state=TrialState.FAIL)
    else:
        study.tell(number, value)


def _counts(study: "Study") -> tuple[int, int]:
    done = finished(study)
    completed = sum(trial.value is not None for trial in done)
    return completed, len(done) - completed


def _summary(study: "Study") -> StudySummary:
    best = best_of(study)
    completed, failed = _counts(study)
    return StudySummary(
        study=study.study_name,
        direction=direction_of(study),
        completed=completed,
        failed=failed,
        best_value=best.value if best else None,
    )


def _distributions(text: str) -> "dict[str, BaseDistribution]":
    """Optuna's distributions out of the JSON form.

    Raises:
        FixableError: names the parameter and what is valid.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    try:
        space = parse_json(text)
    except FixableError as error:
        raise FixableError(f"the space is {error.message}; got {shorten(text, 80)!r}") from error
    if not isinstance(space, Mapping) or not space:
        raise FixableError(f"the space must be an object of parameters ({SPACE_TYPES}), got {space!r}")
    makers = {"float": FloatDistribution, "int": IntDistribution, "categorical": CategoricalDistribution}
    made: dict[str, BaseDistribution] = {}
    for name, described in space.items():
        fields = dict(described) if isinstance(described, Mapping) else {}
        maker = makers.get(str(fields.pop("type", None)))
        if maker is None:
            raise FixableError(f"parameter {name!r}: unknown type in {described!r}; valid types: {SPACE_TYPES}")
        try:
            made[str(name)] = maker(**fields)
        except (TypeError, ValueError) as error:
            raise FixableError(f"parameter {name!r}: {error}; got {described!r}; valid: {SPACE_TYPES}") from error
    return made
