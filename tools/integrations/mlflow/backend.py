"""The MLflow backend: the embedded store in the state folder, or the configured servers."""

from collections.abc import Mapping
from typing import Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import NoDataError
from tools.integrations.mlflow.compatible import check_server
from tools.integrations.mlflow.registry import Registry
from tools.integrations.mlflow.spec import (
    Backup,
    Champion,
    ColumnImportance,
    ColumnImportanceArgs,
    EvaluateModelArgs,
    Evaluation,
    FoundRuns,
    GetChampionArgs,
    LoggedStudy,
    LogTrialsArgs,
    ModelNameArgs,
    ProbedWindows,
    ProbeWindowsArgs,
    ProductionHistory,
    PromoteVersionArgs,
    Promotion,
    ReadOutput,
    ReadOutputArgs,
    RegisteredVersion,
    RegisterModelArgs,
    Retirement,
    RetireVersionArgs,
    ScoredRows,
    ScoreRowsArgs,
    SearchRunsArgs,
    SetBackupArgs,
    TrainedModel,
    TrainModelArgs,
    Versions,
)
from tools.integrations.mlflow.tracking import PING_TIMEOUT_S, Store, find_runs, log_study, prepare_environment
from tools.modeling.trials import read_trials


class MLflowBackend(Backend):
    """Holds no connection: every call reaches the store anew, so a restarted server is no problem. Models that were
    scored stay loaded, in processes of their own."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        prepare_environment(settings)
        self._models: Any = None
        self._evaluations: Any = None

    def _loaded(self) -> Any:
        if self._models is None:
            from tools.integrations.mlflow.models import Models

            self._models = Models()
        return self._models

    def close(self) -> None:
        if self._models is not None:
            self._models.close()

    def _store(self, ctx: CallContext) -> Store:
        return Store.from_settings(self.settings, ctx.store("mlflow"), ctx.project)

    def health(self, ctx: CallContext) -> str:
        store = self._store(ctx)
        count = Registry(store).count()  # which says first whether they answer at all
        for uri in dict.fromkeys((store.tracking_uri, store.registry_uri)):
            check_server(uri, PING_TIMEOUT_S)
        return f"{store.registry_uri}, {count} registered model{'' if count == 1 else 's'}"

    def train_model(self, args: TrainModelArgs, ctx: CallContext) -> TrainedModel:
        from tools.integrations.mlflow.training import train

        return train(self.settings, self._store(ctx), args, ctx)

    def probe_windows(self, args: ProbeWindowsArgs, ctx: CallContext) -> ProbedWindows:
        from tools.integrations.mlflow.probing import probe

        return probe(args, ctx)

    def log_trials(self, args: LogTrialsArgs, ctx: CallContext) -> LoggedStudy:
        trials = read_trials(ctx.path(args.trials_path))
        return log_study(self._store(ctx), trials, args.experiment, ctx.run_id, ctx.idempotency_key)

    def evaluate_model(self, args: EvaluateModelArgs, ctx: CallContext) -> Evaluation:
        from tools.integrations.mlflow.evaluation import Evaluations, evaluate

        self._evaluations = self._evaluations or Evaluations()
        return evaluate(self._store(ctx), self._loaded(), self._evaluations, args, ctx)

    def column_importance(self, args: ColumnImportanceArgs, ctx: CallContext) -> ColumnImportance:
        from tools.integrations.mlflow.importance import column_importance

        return column_importance(self._store(ctx), self._loaded(), args, ctx)

    def score_rows(self, args: ScoreRowsArgs, ctx: CallContext) -> ScoredRows:
        from tools.integrations.mlflow.importance import score_rows

        return score_rows(self._store(ctx), self._loaded(), args, ctx)

    def read_output(self, args: ReadOutputArgs, ctx: CallContext) -> ReadOutput:
        from tools.integrations.mlflow.evaluation import read_output

        return read_output(self._store(ctx), self._loaded(), args, ctx)

    def register_model(self, args: RegisterModelArgs, ctx: CallContext) -> RegisteredVersion:
        return Registry(self._store(ctx)).register(args.model_uri, args.name, args.note)

    def get_champion(self, args: GetChampionArgs, ctx: CallContext) -> Champion:
        return Registry(self._store(ctx)).champion(args.name, args.champion)

    def list_versions(self, args: ModelNameArgs, ctx: CallContext) -> Versions:
        return Registry(self._store(ctx)).versions(args.name)

    def promote_version(self, args: PromoteVersionArgs, ctx: CallContext) -> Promotion:
        store = self._store(ctx)
        if args.digest:
            self._loaded().check(store, f"models:/{args.name}/{args.version}", args.digest, ctx)
        return Registry(store).promote(args.name, args.version, args.reason)

    def set_backup(self, args: SetBackupArgs, ctx: CallContext) -> Backup:
        return Registry(self._store(ctx)).set_backup(args.name, args.version, args.reason)

    def retire_version(self, args: RetireVersionArgs, ctx: CallContext) -> Retirement:
        return Registry(self._store(ctx)).retire(args.name, args.version, args.reason)

    def production_history(self, args: ModelNameArgs, ctx: CallContext) -> ProductionHistory:
        return Registry(self._store(ctx)).history(args.name)

    def search_runs(self, args: SearchRunsArgs, ctx: CallContext) -> FoundRuns:
        store = self._store(ctx)
        found = find_runs(store, args.filter, args.limit)
        if found is None:
            matching = f" that match {args.filter!r}" if args.filter else ""
            raise NoDataError(f"no runs{matching}", tried=f"experiment {store.experiment} in {store.tracking_uri}")
        return found
