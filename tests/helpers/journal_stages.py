"""The stages of a made-up run, one function each: what the integrations would have returned, with invented numbers."""

# fmt: off
import hashlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.helpers.journal_builder import Example

GOAL = {
    "name": "churn",
    "task": "binary",
    "target": "churned",
    "metric": "roc_auc",
    "direction": "maximize",
    "data": {"reference": "sample/reference.csv", "current": "sample/current.csv", "time_column": "timestamp"},
    "constraints": {"max_latency_ms": 50.0, "min_metric": 0.7},
    "budget": {"trials": 40, "minutes": 10},
    "trainer": "builtin",
}
COLUMNS = [
    ("data_usage_gb", "number", "Wasserstein distance (normed)", 0.7312, 0.1, True),
    ("app_logins_per_week", "number", "Wasserstein distance (normed)", 0.5127, 0.1, True),
    ("payment_method", "category", "Jensen-Shannon distance", 0.3371, 0.1, True),
    ("support_tickets", "number", "Wasserstein distance (normed)", 0.3016, 0.1, True),
    ("contract", "category", "Jensen-Shannon distance", 0.1983, 0.1, True),
    ("plan", "category", "Jensen-Shannon distance", 0.1544, 0.1, True),
    ("monthly_charges", "number", "Wasserstein distance (normed)", 0.1209, 0.1, True),
    ("churned", "category", "Jensen-Shannon distance", 0.0631, 0.1, False),
    ("tenure_months", "number", "Wasserstein distance (normed)", 0.0412, 0.1, False),
    ("late_payments", "number", "Wasserstein distance (normed)", 0.0268, 0.1, False),
    ("region", "category", "Jensen-Shannon distance", 0.0117, 0.1, False),
]


def _digest(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()


def started(project: Path, run_id: str, listener: Callable[[dict[str, Any]], None] | None) -> Example:
    run = Example(project / ".mlops" / "runs" / run_id, project)
    if listener is not None:
        run.listener = listener
    run.add(
        "run_started", run_id=run_id, goal=GOAL, goal_path="config/goal.yaml", seed=7, process="sequential",
        mode="runbook", model=None, mode_note="No model is configured (MODEL): the agents follow their runbooks.",
        autonomy={"dvc": "autonomous", "mlflow": "autonomous"},
        versions={"python": "3.11.14", "mlops-crew": "0.1.0", "crewai": "1.15.30", "mlflow": "3.17.1",
        "optuna": "5.0.1",
                  "evidently": "0.7.23", "scikit-learn": "1.9.0"},
    )
    return run


def staging(run: Example) -> dict[str, str]:
    data = {
        name: f".mlops/runs/{run.folder.name}/files/snapshot/{name}.parquet"
        for name in ("reference", "reference_holdout", "train", "holdout", "live", "reference_all", "current_all")
    }
    run.begin("version_data", "data_guardian")
    rows = {"reference": 4800, "reference_holdout": 1200, "train": 2400, "holdout": 1200, "live": 2400}
    run.call(
        "dvc", "stage_data", {**data, "rows": rows, "columns": [c[0] for c in COLUMNS], "time_range": None,
        "input_md5": {},
                              "message": "Staged 6000 reference and 6000 current rows, in the order of timestamp."},
        0.34, effect="write", reference="sample/reference.csv", current="sample/current.csv", target="churned",
    )
    run.call(
        "dvc", "version_data",
        {"version": "4f1c9a77d2e05b3188aa02d94c6b7e11", "name": "snapshot", "files": list(rows), "size_bytes": 412_331,
         "is_new": True, "pushed_files": 8, "pushed_bytes": 412_331, "remote": "local", "metafile": "snapshot.dvc",
         "message": "New version 4f1c9a77d2e0 of snapshot, pushed to local."},
        2.6, effect="write", paths=[".mlops/snapshot"],
    )
    run.end("12,000 rows staged in time order and versioned as 4f1c9a77d2e0.", 3.1)
    run.begin("check_data", "data_guardian")
    warning = {"column": "payment_method", "expectation": "expect_column_values_to_be_in_set", "unexpected_count": 812,
               "unexpected_percent": 13.5, "examples": ["app_wallet"], "reason": "values the reference does not have"}
    for name, warnings in (("reference_all", []), ("current_all", [warning])):
        run.call(
            "great_expectations", "validate",
            {"passed": True, "critical": [], "warnings": warnings, "rows": 6000, "columns": 12, "expectations": 31,
             "bad_rows": 0, "bad_rows_path": None, "suite_path": "x",
             "message": f"{name}.parquet passed 31 expectations with {len(warnings)} warnings."},
            0.6, data=data[name], target="churned", task="binary",
        )
    run.end("Both files are fit to be used; payment_method has one new value.", 1.3)
    return data


def champion(run: Example, data: dict[str, str]) -> None:
    run.begin("establish_champion", "deployment")
    run.call("mlflow", "get_champion", {}, 1.1, status="no_data", message="no registered model 'churn' in the registry",
             name="churn")
    run.call(
        "mlflow", "train_model",
        {"run_id": "aa11", "model_uri": "runs:/aa11/model", "validation_metric": "roc_auc", "validation_value": 0.829,
         "size_bytes": 310_000, "fit_s": 0.8, "message": "Trained hist_gradient_boosting, roc_auc 0.829."},
        3.4, effect="write", train=[data["reference"]], target="churned", task="binary", metric="roc_auc",
        run_name="baseline",
    )
    register(run, "runs:/aa11/model", 1, "aa11")
    run.call(
        "mlflow", "promote_version",
        {"name": "churn", "version": 1, "previous_version": None, "promoted_at": "2026-11-23T14:25:11Z",
         "already_champion": False, "message": "churn version 1 is the champion now."},
        0.1, effect="risky", name="churn", version=1, reason="first model: baseline on the reference data",
    )
    run.end("A baseline on the reference data is champion version 1.", 5.0)


def register(run: Example, uri: str, version: int, run_id: str) -> None:
    run.call(
        "mlflow", "register_model",
        {"name": "churn", "version": version, "model_uri": f"models:/churn/{version}", "run_id": run_id, "is_new": True,
         "message": f"churn version {version} is registered as challenger."},
        0.3, effect="write", model_uri=uri, name="churn",
    )


def drift(run: Example, data: dict[str, str], drifted: bool = True) -> None:
    run.begin("detect_drift", "data_guardian")
    rng = random.Random(3)
    profile: dict[str, Any] = {"reference_rows": 6000, "current_rows": 6000, "columns": {}}
    for name, kind, _, score, _, _ in COLUMNS:
        if kind == "number":
            edges = [i * 2.5 for i in range(21)]
            before = [round(900 * math.exp(-(((i - 6) / 3.2) ** 2)) + rng.random() * 20) for i in range(20)]
            now = [round(800 * math.exp(-(((i - 6 - 6 * score) / 3.9) ** 2)) + rng.random() * 20) for i in range(20)]
            profile["columns"][name] = {"kind": kind, "edges": edges, "reference": before, "current": now,
                                        "missing": {"reference": 60, "current": 63}}
        else:
            values = ["bank_transfer", "credit_card", "electronic_check", "mailed_check", "app_wallet"]
            profile["columns"][name] = {"kind": kind, "values": values, "reference": [1810, 1795, 1620, 775, 0],
                                        "current": [1502, 1530, 1391, 662, 915]}
    columns = [
        {
            "column": c,
            "kind": k,
            "method": m,
            "score": s if drifted else s / 12,
            "threshold": t,
            "drifted": d and drifted,
        }
        for c, k, m, s, t, d in COLUMNS
    ]
    count = sum(d and drifted for *_, d in COLUMNS)
    run.call(
        "evidently", "detect_drift",
        {"dataset_drift": drifted, "share_drifted": count / 11, "drifted_columns": count, "drift_share": 0.5,
         "target_drifted": False, "columns": columns, "skipped": {"timestamp": "a time"}, "reference_rows": 6000,
         "current_rows": 6000, "reference_sample": 6000, "current_sample": 6000, "seed": 7,
         "report_path": run.file("drift/current_all_drift.html", "<html>Evidently</html>"),
         "json_path": run.file("drift/current_all_drift.json", {}),
         "profile_path": run.file("drift/current_all_profile.json", profile),
         "message": f"The data {'drifted' if drifted else 'did not drift as a whole'}: {count} of 11 columns drifted "
                    "(the limit is 50%)."},
        2.9, reference=data["reference_all"], current=data["current_all"], target="churned", seed=7,
    )
    importance = {"most_important": ["monthly_charges", "data_usage_gb"], "used_columns": 7, "columns": 11,
                  "rows": 1200, "loss": 0.41, "importance_path": run.file("importance.json", {"monthly_charges": 0.08}),
                  "message": "7 of 11 columns matter to models:/churn/1 on 1200 rows."}  # fmt: skip
    run.call("mlflow", "column_importance", importance, 0.9, model_uri="models:/churn/1",
             data=data["reference_holdout"], target="churned", task="binary")  # fmt: skip
    judge_drift(run, data, drifted)
    run.end(f"{count} of 11 columns drifted; data usage most.", 3.0)
    run.begin("assess_champion", "sentinel")
    for name, value in (("reference_holdout", 0.8312), ("holdout", 0.7308 if drifted else 0.8295)):
        evaluate(run, "models:/churn/1", data[name], value)


def judge_drift(run: Example, data: dict[str, str], drifted: bool) -> None:
    """The judge agrees with Evidently but for the first column, which it holds for too small a change."""
    columns = [
        {"name": name, "kind": kind, "effect": 0.02 if i == 0 else 0.3 if moved and drifted else 0.0,
         "effect_error": 0.0, "p_value": 1e-9, "adjusted_p": 1e-8 if moved and drifted else 0.8,
         "drifted": bool(i and moved and drifted), "importance": 0.1, "change": "another spread", "psi": 0.1}
        for i, (name, kind, _, _, _, moved) in enumerate(COLUMNS)
    ]  # fmt: skip
    moved = [c for c in columns if c["drifted"]]
    message = (
        f"Drift of high severity: {len(moved)} of {len(columns)} columns changed; chance alone gives such an alarm at "
        "most once in 100 checks." if drifted else
        f"No drift: none of {len(columns)} columns changed by more than chance explains."
    )  # fmt: skip
    run.call(
        "judge", "judge_drift",
        {"drifted": drifted, "severity": "high" if drifted else "none", "harm": 0.31 if drifted else 0.0,
         "p_value": 1e-8 if drifted else 0.8, "false_alarm_probability": 0.01, "checks_between_false_alarms": 100.0,
         "moved": [{"column": c["name"], **{k: c[k] for k in ("effect", "adjusted_p", "importance", "change")}}
                   for c in moved],
         "share_drifted": len(moved) / len(columns), "columns": len(columns), "skipped": 1, "reference_rows": 6000,
         "current_rows": 6000, "message": message,
         "details_path": run.file("drift.json", {"alpha": 0.01, "min_effect": 0.05, "columns": columns,
                                                 "skipped": {"timestamp": "excluded"}})},
        0.2, reference=data["reference_all"], current=data["current_all"],
    )  # fmt: skip


def evaluate(run: Example, uri: str, data: str, value: float) -> None:
    run.call(
        "mlflow", "evaluate_model",
        {"model_uri": uri, "metric": "roc_auc", "value": value, "rows": 1200, "latency_ms_p50": 6.1,
         "latency_ms_p95": 8.8,
         "size_bytes": 310_000, "scores_path": "files/scores.parquet", "segments": None,
         "fairness_gap": None, "model_digest": _digest(uri), "rows_digest": _digest(data),
         "message": f"{uri}: roc_auc {value:.4g} on 1200 rows of {Path(data).name}."},
        0.9, model_uri=uri, data=data, target="churned", task="binary", metric="roc_auc",
    )


def assessment(run: Example, act: bool) -> None:
    reason = (
        "the loss rose by 0.18 per row (0.12 to 0.24), beyond chance (p = 2e-09)" if act
        else "the loss did not rise beyond chance (p = 0.61)"
    )
    run.call(
        "judge", "decide_retraining",
        {"act": act, "urgency": "now" if act else "none", "reference_value": 0.8312,
         "current_value": 0.7308 if act else 0.8295,
         "loss_increase": 0.18, "loss_increase_low": 0.12, "loss_increase_high": 0.24, "p_value": 2e-9 if act else 0.61,
         "breached_minimum": False, "reference_rows": 1200, "current_rows": 1200, "reasons": [reason],
         "message": f"{'Act now' if act else 'No action'}: {reason}."},
        0.05, reference_scores="a.parquet", current_scores="b.parquet", metric="roc_auc", task="binary", min_metric=0.7,
    )
    run.end("Retrain: ROC AUC fell from 0.831 to 0.731." if act else "No reason to retrain is proven.", 2.1, act=act)


def trials(run: Example, engine: str, count: int, start: float, top: float, took: float) -> dict[str, Any]:
    rng = random.Random(engine)
    trials = []
    for n in range(count):
        failed = n == 5
        value = None if failed else top - (top - start) * math.exp(-n / 7) - (abs(rng.gauss(0, 0.012)) if n else 0)
        trials.append({"number": n, "value": value, "state": "failed" if failed else "complete", "duration_s": 0.6,
                       "config": {"family": rng.choice(["hist_gradient_boosting", "logistic", "random_forest"]),
                                  "window": rng.choice(["all", "recent"]),
                                  "params": {"learning_rate": round(rng.random(), 3)}},
                       "latency_ms": 5 + rng.random() * 4, "size_bytes": 300_000})
    best = max((t for t in trials if t["value"] is not None), key=lambda t: t["value"])
    path = run.file(f"trials/{engine}.json", {"study": f"churn-{engine}", "metric": "roc_auc", "direction": "maximize",
                    "seed": 7, "engine": engine, "trials": trials, "best": best["number"]})
    return {"study": f"churn-{engine}", "metric": "roc_auc", "direction": "maximize", "best_value": best["value"],
            "best_config": best["config"], "start_value": trials[0]["value"], "completed": count - 1, "failed": 1,
            "stopped_by": "trials", "trials_path": path,
            "message": f"{count} trials in {took:.0f} s: roc_auc {best['value']:.4g}, from {trials[0]['value']:.4g}."}


def search(run: Example, data: dict[str, str]) -> None:
    paths = [data["reference"], data["train"]]
    run.begin("search_architecture", "architect", mode="llm")
    found = trials(run, "optuna", 30, 0.79, 0.836, 24)
    run.call("optuna", "search", found, 24.1, effect="write", paths=paths, target="churned", task="binary",
        metric="roc_auc",
             trials=30, seed=7, progress=(30, "trial {n}: hist_gradient_boosting roc_auc 0.81, best 0.836"))
    run.call("mlflow", "log_trials", {"run_id": "bb22", "experiment": "mlops-crew", "trials": 30, "failed": 1,
        "best_run_id": "cc",
             "best_value": 0.836, "message": "Logged 30 trials."}, 1.9, effect="write", attempts=2,
             trials_path=found["trials_path"])
    run.call("wandb", "log_trials", {}, 0.4, effect="write", status="failed",
             message="cannot start W&B's service: Permission denied: '/root/.config'; set WANDB_CONFIG_DIR",
             trials_path=found["trials_path"])
    run.add("guardrail", task="search_architecture", ok=False, attempt=1,
            reason="it claims roc_auc 0.91, which no tool returned (the best is 0.836, c0017)")
    run.add("fallback", task="search_architecture", reason="the guardrail kept failing after 2 attempts")
    run.end(
        "hist_gradient_boosting on the recent window is best: ROC AUC 0.836.",
        27.0,
        tokens={"prompt": 4210, "completion": 388},
    )
    run.begin("tune", "optimization")
    found = trials(run, "hyperopt", 18, 0.833, 0.845, 12)
    run.call("hyperopt", "tune", found, 12.2, effect="write", paths=paths, target="churned", task="binary",
        metric="roc_auc",
             trials=18, seed=7, config=found["best_config"], progress=(18, "trial {n}: roc_auc 0.84, best 0.845"))
    run.end("Tuned to ROC AUC 0.845 on the validation rows.", 12.5)


def challenger(run: Example, data: dict[str, str]) -> None:
    run.begin("train_challenger", "optimization")
    run.call(
        "mlflow", "train_model",
        {"run_id": "dd33", "model_uri": "runs:/dd33/model", "validation_metric": "roc_auc", "validation_value": 0.845,
         "size_bytes": 322_000, "fit_s": 0.9, "message": "Trained hist_gradient_boosting, roc_auc 0.845."},
        3.1, effect="write", train=[data["reference"], data["train"]], target="churned", task="binary",
        metric="roc_auc",
    )
    evaluate(run, "runs:/dd33/model", data["holdout"], 0.8417)
    reason = "0.8417 against 0.7308 roc_auc on the same 1200 rows, difference 0.111 (0.079 to 0.143)"
    run.call(
        "judge", "compare_models",
        {"better": True, "champion_value": 0.7308, "challenger_value": 0.8417, "difference": 0.1109,
         "difference_low": 0.0788,
         "difference_high": 0.1430, "p_value": 1e-10, "rows": 1200, "method": "DeLong", "reason": reason,
         "champion_digest": _digest("models:/churn/1"), "challenger_digest": _digest("runs:/dd33/model"),
         "rows_digest": _digest(data["holdout"]),
         "message": f"The challenger is better: {reason}."},
        0.04, champion_scores="b.parquet", challenger_scores="c.parquet", metric="roc_auc", task="binary",
    )
    run.end("The challenger beats the champion on the holdout.", 4.4, better=True)
    run.begin("register_challenger", "deployment")
    register(run, "runs:/dd33/model", 2, "dd33")
    run.end("Registered as churn version 2.", 0.4)


def canary(run: Example) -> None:
    run.begin("canary", "deployment")
    production = {"url": "http://127.0.0.1:40321", "metrics_url": "http://127.0.0.1:40321/metrics", "name": "churn",
                  "champion_version": "1", "champion_uri": "models:/churn/1", "canary_version": None,
                  "canary_percent": 0.0,
                  "changed": True}
    run.call("serving", "deploy_model", {**production, "message": "Version 1 serves all traffic."}, 2.8, effect="risky",
             model_uri="models:/churn/1", version="1", name="churn")
    canary = {**production, "canary_version": "2", "canary_percent": 5.0}
    run.call("serving", "start_canary", {**canary, "message": "Version 2 gets 5 % of the traffic."}, 2.1,
        effect="risky",
             model_uri="models:/churn/2", version="2", percent=5.0, seed=7, decision="ask", approved_by="maria")
    for batch in range(4):
        traffic_batch(run, batch)
    run.end("Version 2 is proven not to be worse on 1,200 requests.", 14.0, verdict="promote")


def traffic_batch(run: Example, batch: int) -> None:
    rng = random.Random(batch)
    sent = (batch + 1) * 300
    errors = 1 if batch == 2 else 0
    run.call(
        "serving", "send_traffic",
        {"evidence_path": "evidence.parquet", "labels_path": None, "batch": batch,
         "requests": 300, "failed_requests": 0,
         "rows_left": 2400 - sent,
         "next_start": sent,
         "champion": {"served": 284, "scored": 300, "errors": 0, "latency_p50_ms": 5.9,
         "latency_p95_ms": 8.4 + rng.random(),
                      "mean_loss": 0.61, "mean_error": 0.29},
         "challenger": {"served": 16, "scored": 300, "errors": errors, "latency_p50_ms": 6.2,
         "latency_p95_ms": 8.9 + rng.random(),
                        "mean_loss": 0.47, "mean_error": 0.21},
         "response_p50_ms": 9.1, "response_p95_ms": 14.2, "requests_per_s": 210.0,
         "message": "300 requests: champion 284, challenger 16."},
        1.6, effect="write", progress=(300, f"batch {batch}: {{n}} of 300 requests"), data="live.parquet",
        target="churned",
        task="binary", start=sent - 300, rows=300, batch=batch,
    )
    looks = []
    for k in range(1, 61):
        n = max(1, sent * k // 60)
        half = min(1.0, 1.9 / math.sqrt(n))
        proof = max(0.0, (n - 90) * 0.0052)
        looks.append({"requests": n, "difference_low": None if n < 5 else 0.08 - half,
        "difference_high": None if n < 5 else 0.08 + half,
                      "log_e": {"quality": max(-2.0, -n * 0.004), "failures": 0.6 if n > 700 else 0.0,
                      "latency": math.sin(n / 90) * 0.5},
                      "log_e_within_tolerance": proof, "verdict": "promote" if proof >= math.log(20) else "wait"})
    verdict = "promote" if batch == 3 else "wait"
    path = run.file(f"canary_trajectory_{sent}.json", {"measure": "accuracy", "alpha": 0.05, "looks": looks,
        "rollback_at_log_e":
                    {"quality": math.log(40), "failures": math.log(80), "latency": math.log(80)}})
    reason = (
        "quality: proven to be at most 0.02 worse (e-value 320, needed 20)." if verdict == "promote"
        else "quality: not yet proven to be at most 0.02 worse (e-value 3.1, needed 20)."
    )
    last = looks[-1]
    checks = [
        {"name": name, "harm_proven": False, "passed": True, "e_value": math.exp(last["log_e"][name]),
         "rollback_at": at,
         "champion_value": a, "challenger_value": b, "unit": unit}
        for name, at, a, b, unit in (("quality", 40.0, 0.71, 0.79, "accuracy"), ("failures", 80.0, 0.0, 0.0008,
        "failed share"),
                                     ("latency", 80.0, 8.6, 9.1, "p95 ms"))
    ]
    run.call(
        "judge", "judge_canary",
        {"verdict": verdict, "reasons": [reason], "requests": sent, "labelled": sent, "mature": sent,
         "label_share": 1.0, "held": False, "proxies": [], "served_by_challenger": 16 * (batch + 1),
         "measure": "accuracy", "champion_value": 0.71, "challenger_value": 0.79, "difference": 0.08,
         "difference_low": last["difference_low"], "difference_high": last["difference_high"], "disagreement": 0.18,
         "checks": checks, "trajectory_path": path, "champion_digest": _digest("models:/churn/1"),
         "challenger_digest": _digest("models:/churn/2"), "evidence_digest": _digest(f"evidence of {sent} requests"),
         "message": f"{verdict.capitalize()} after {sent} requests: {reason}"},
        0.06, evidence="evidence.parquet", metric="roc_auc", task="binary",
    )


def release(run: Example) -> None:
    run.begin("release", "deployment")
    run.call("serving", "promote_canary",
             {"url": "http://127.0.0.1:40321", "metrics_url": "http://127.0.0.1:40321/metrics", "name": "churn",
              "champion_version": "2", "champion_uri": "models:/churn/2", "canary_version": None,
              "canary_percent": 0.0, "changed": True, "message": "Version 2 serves all traffic."},
             0.2, effect="risky", decision="ask", approved_by="maria", version="2")
    run.call("mlflow", "promote_version",
             {"name": "churn", "version": 2, "previous_version": 1, "promoted_at": "2026-11-23T14:26:39Z",
              "already_champion": False,
              "message": "churn version 2 is the champion now; version 1 is the previous champion."},
             0.1, effect="risky", name="churn", version=2, reason="canary: promote after 1200 requests")
    run.end("Version 2 is in production.", 0.6)
    run.begin("watch_production", "sentinel")
    run.call("prometheus", "watch",
             {"window_s": 5.0, "scrapes": 6, "failed_scrapes": 0, "requests": 300.0, "error_rate": 0.0,
              "latency_p95_ms": 9.2,
              "variants": [{"variant": "champion", "requests": 300.0, "request_rate": 60.0, "error_rate": 0.0,
              "latency_p95_ms": 9.2}],
              "message": "300 requests in 5 s, no errors, p95 9.2 ms."},
             5.1, target="http://127.0.0.1:40321/metrics", seconds=5.0)
    run.end("Production is healthy: no errors, p95 9.2 ms.", 5.2)
    run.begin("close_loop", "evolution")
    run.call("mlflow", "retire_version",
             {"name": "churn", "version": 1, "retired_at": "2026-11-23T14:26:46Z", "already_retired": False,
              "message": "churn version 1 is retired."},
             0.1, effect="risky", name="churn", version=1, reason="replaced by version 2")
    run.call("mlflow", "list_versions",
             {"name": "churn", "versions": [
                 {"version": 2, "model_uri": "models:/churn/2", "run_id": "dd33", "aliases": ["champion"],
                  "created": "2026-11-23T14:26:12Z",
                  "retired": None, "note": "challenger of this run"},
                 {"version": 1, "model_uri": "models:/churn/1", "run_id": "aa11", "aliases": [],
                  "created": "2026-11-23T14:25:10Z",
                  "retired": "2026-11-23T14:26:46Z", "note": "baseline on the reference data"}],
              "message": "churn: 2 versions, champion 2."},
             0.1, name="churn")
    run.end("Version 1 is retired; the next run starts from version 2.", 0.4)
