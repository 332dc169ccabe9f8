"""The run of the sample goal as one would script it by hand: the same libraries, calls and seed, nothing around them.

No CrewAI, agents, gateway, policy, journal, MCP, guardrails or report. `bench/overhead.py` runs it beside the crew.

    python bench/plain_loop.py GOAL.yaml STATE_FOLDER
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from tools.core.contract import Backend, CallContext
from tools.registry import load_spec


class Libraries:
    """The integrations' libraries, called directly."""

    def __init__(self, home: Path, project: Path | None = None) -> None:
        self.ctx = CallContext(project=project or Path.cwd(), home=home, run_id="plain")
        self.backends: dict[str, Backend] = {}

    def do(self, integration: str, action: str, **arguments: Any) -> Any:
        spec = load_spec(integration)
        if integration not in self.backends:
            self.backends[integration] = spec.load_backend(spec.resolve_settings(os.environ))
        typed = spec.action(action).args.model_validate(arguments)
        return getattr(self.backends[integration], action)(typed, self.ctx)

    def close(self) -> None:
        for backend in self.backends.values():
            backend.close()


def main(goal_path: Path, home: Path) -> str:
    goal = yaml.safe_load(goal_path.read_text(encoding="utf-8"))
    name, target, task, metric = goal["name"], goal["target"], goal["task"], goal["metric"]
    data, budget, seed = goal["data"], goal["budget"], 0
    scoring = {"target": target, "task": task, "metric": metric, "drop": [data["time_column"]]}
    libraries = Libraries(home)
    do = libraries.do
    try:
        files = {key: data[key] for key in ("reference", "current", "time_column")}
        staged = do("dvc", "stage_data", **files, target=target, name=name)
        slices = ("reference", "reference_holdout", "train", "holdout", "live", "reference_all", "current_all")
        do("dvc", "version_data", paths=[getattr(staged, part) for part in slices], name=name)
        both = {"data": staged.current_all, "reference": staged.reference_all}
        if not do("great_expectations", "validate", **both, target=target, task=task).passed:
            return "data rejected"
        baseline = do("mlflow", "train_model", train=[staged.reference], **scoring, seed=seed, run_name="baseline")
        champion = do("mlflow", "register_model", model_uri=baseline.model_uri, name=name, note="baseline")
        do("mlflow", "promote_version", name=name, version=champion.version, reason="first champion")
        drift = do(
            "evidently",
            "detect_drift",
            reference=staged.reference_all,
            current=staged.current_all,
            target=target,
            exclude=[data["time_column"]],
            seed=seed,
        )
        before = do("mlflow", "evaluate_model", model_uri=champion.model_uri, data=staged.reference_holdout, **scoring)
        now = do("mlflow", "evaluate_model", model_uri=champion.model_uri, data=staged.current_all, **scoring)
        decision = do(
            "judge",
            "decide_retraining",
            reference_scores=before.scores_path,
            current_scores=now.scores_path,
            metric=metric,
            task=task,
            drift_share=drift.share_drifted,
        )
        if not decision.act:
            return "no action"
        search = {"paths": [staged.reference_all, staged.train], **scoring, "minutes": budget["minutes"], "seed": seed}
        found = do("optuna", "search", **search, trials=budget["search_trials"])
        do("mlflow", "log_trials", trials_path=found.trials_path, experiment=name)
        do("wandb", "log_trials", trials_path=found.trials_path, project=name)
        tuned = do("hyperopt", "tune", **search, trials=budget["tuning_trials"], config=found.best_config)
        do("mlflow", "log_trials", trials_path=tuned.trials_path, experiment=name)
        trained = do(
            "mlflow",
            "train_model",
            train=[staged.reference_all, staged.train],
            **scoring,
            config=tuned.best_config,
            seed=seed,
            run_name="challenger",
        )
        old = do("mlflow", "evaluate_model", model_uri=champion.model_uri, data=staged.holdout, **scoring)
        new = do("mlflow", "evaluate_model", model_uri=trained.model_uri, data=staged.holdout, **scoring)
        compared = do(
            "judge",
            "compare_models",
            champion_scores=old.scores_path,
            challenger_scores=new.scores_path,
            metric=metric,
            task=task,
        )
        if not compared.better:
            return "champion kept"
        challenger = do("mlflow", "register_model", model_uri=trained.model_uri, name=name, note="challenger")
        do("serving", "deploy_model", model_uri=champion.model_uri, version=str(champion.version), name=name)
        do(
            "serving",
            "start_canary",
            model_uri=challenger.model_uri,
            version=str(challenger.version),
            percent=goal["canary"]["percent"],
            seed=seed,
        )
        rows = {"data": staged.live, "target": target, "task": task, "rows": goal["canary"]["batch_requests"]}
        start, batch, verdict = 0, 0, "wait"
        while verdict == "wait":
            sent = do("serving", "send_traffic", **rows, start=start, batch=batch, seed=seed)
            start, batch = sent.next_start, batch + 1
            verdict = do(
                "judge",
                "judge_canary",
                evidence=sent.evidence_path,
                metric=metric,
                task=task,
                max_latency_ms=goal["constraints"]["max_latency_ms"],
            ).verdict
            if not sent.rows_left:
                break
        if verdict != "promote":
            do("serving", "rollback_canary")
            return "rolled back"
        do("serving", "promote_canary", version=str(challenger.version))
        do("mlflow", "promote_version", name=name, version=challenger.version, reason="canary")
        status = do("serving", "status")
        do("prometheus", "scrape", target=status.metrics_url)
        do("serving", "send_traffic", **rows, start=start, batch=10_000, seed=seed)
        do("prometheus", "watch", target=status.metrics_url, seconds=2.0, interval=1.0, lookback=60.0)
        do("mlflow", "get_champion", name=name)
        do("mlflow", "retire_version", name=name, version=champion.version, reason="canary")
        do("serving", "status")
        return "promoted"
    finally:
        libraries.close()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
