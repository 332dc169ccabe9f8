"""What the report shows of each integration's results: read from the outcomes, and from the run's files they name.

Only files inside the run's folder are read. A file that is missing, unreadable or of another shape leaves its part out.
"""

import json
import math
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from crew.report.collect import Call, RecordedRun

MAX_FILE_BYTES = 20_000_000
SEARCHES = ("optuna.search", "hyperopt.tune", "ray.tune")

Facts = dict[str, Any]


def run_file(run: RecordedRun, shown: object) -> Path | None:
    """A file of the run, by the path a result gave: relative to the project, or absolute. None unless it exists."""
    if not isinstance(shown, str) or not shown:
        return None
    parts = PurePosixPath(shown).parts
    if run.folder.name in parts:  # also when the folder was moved, or copied to another machine
        inside = run.folder.joinpath(*parts[len(parts) - parts[::-1].index(run.folder.name) :])
    else:
        inside = Path(shown)
    path = inside.resolve()
    return path if path.is_relative_to(run.folder.resolve()) and path.is_file() else None


def run_link(run: RecordedRun, shown: object) -> str:
    """The address of a file of the run, relative to its report; empty when there is none."""
    path = run_file(run, shown)
    return quote(path.relative_to(run.folder.resolve()).as_posix(), errors="surrogateescape") if path else ""


def read_json(run: RecordedRun, shown: object) -> Facts:
    """The object in a JSON file of the run; empty when it cannot be had. NaN and infinities become None."""
    path = run_file(run, shown)
    try:
        if path is None or path.stat().st_size > MAX_FILE_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return finite(found) if isinstance(found, dict) else {}


def finite(value: Any) -> Any:
    """JSON-like data without NaN and infinities, which JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def number_of(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def dicts(value: Any) -> list[Facts]:
    """The objects in a list; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def data_checks(run: RecordedRun) -> list[Facts]:
    """One row per validated file."""
    return [
        {
            "call": call.id,
            "file": Path(str(call.arguments.get("data", ""))).name,
            "passed": bool(call.data.get("passed")),
            "rows": call.data.get("rows"),
            "expectations": call.data.get("expectations"),
            "bad_rows": call.data.get("bad_rows"),
            "critical": dicts(call.data.get("critical")),
            "warnings": dicts(call.data.get("warnings")),
        }
        for call in run.named("great_expectations.validate")
    ]


def evaluations(run: RecordedRun) -> list[Facts]:
    """The goal's metric of each model on each slice, in the order it was measured."""
    names = _model_names(run)
    return [
        {
            "call": call.id,
            "at_s": call.start_s + (call.duration_s or 0.0),
            "model": names.get(_uri(call), _uri(call)),
            "data": Path(str(call.arguments.get("data", ""))).stem,
            "metric": str(call.data.get("metric") or ""),
            "value": number_of(call.data.get("value")),
            "rows": call.data.get("rows"),
            "latency_ms_p95": number_of(call.data.get("latency_ms_p95")),
            "size_bytes": number_of(call.data.get("size_bytes")),
        }
        for call in run.named("mlflow.evaluate_model")
    ]


def _uri(call: Call) -> str:
    return str(call.arguments.get("model_uri") or call.data.get("model_uri") or "")


def _model_names(run: RecordedRun) -> dict[str, str]:
    """Model address -> `version N`, for every address under which the run knew a version."""
    names: dict[str, str] = {}
    for call in run.calls:
        version = call.data.get("version")
        if version is None or call.name not in ("mlflow.get_champion", "mlflow.register_model"):
            continue
        for uri in (
            call.data.get("model_uri"),
            call.arguments.get("model_uri"),
            f"models:/{call.data.get('name')}/{version}",
        ):
            if uri:
                names[str(uri)] = f"version {version}"
    return names


def forecasts(run: RecordedRun) -> list[Facts]:
    """Every forecast of a threshold, with what was forecast and its course."""
    measures = {
        call.data.get("series_path"): str(call.arguments["measure"]) for call in run.named("judge.score_series")
    }
    for call in run.named("prometheus.query_range"):
        selected = re.search(r"\w+(?=\{)", str(call.arguments.get("expr", "")))
        measures[call.data.get("path")] = selected[0] if selected else str(call.arguments.get("expr", ""))
    return [
        {
            "call": call.id,
            "measure": measures.get(call.arguments.get("series"), Path(str(call.arguments.get("series", ""))).stem),
            **{key: call.data.get(key) for key in ("outlook", "unit", "probability", "trend", "readings", "message")},
            **{key: number_of(call.data.get(key)) for key in ("expected_at_s", "earliest_at_s", "latest_at_s")},
            "course": read_json(run, call.data.get("course_path")),
        }
        for call in run.named("judge.forecast_threshold")
    ]


def searches(run: RecordedRun) -> list[Facts]:
    """The studies of the run with their trials, oldest first."""
    found = []
    for call in run.calls:
        if call.name not in SEARCHES or not call.ok:
            continue
        file = read_json(run, call.data.get("trials_path"))
        trials = dicts(file.get("trials"))
        found.append(
            {
                "call": call.id,
                "engine": str(file.get("engine") or call.server),
                "study": str(call.data.get("study") or ""),
                "metric": str(call.data.get("metric") or ""),
                "direction": str(call.data.get("direction") or "maximize"),
                "start_value": number_of(call.data.get("start_value")),
                "best_value": number_of(call.data.get("best_value")),
                "best_config": call.data.get("best_config") or {},
                "completed": call.data.get("completed"),
                "failed": call.data.get("failed"),
                "stopped_by": str(call.data.get("stopped_by") or ""),
                "duration_s": call.duration_s,
                "trials": [
                    {
                        "number": trial.get("number"),
                        "value": number_of(trial.get("value")),
                        "family": str((trial.get("config") or {}).get("family") or ""),
                    }
                    for trial in trials
                    if isinstance(trial.get("config") or {}, dict)
                ],
            }
        )
    return found


def choices(run: RecordedRun) -> list[Facts]:
    """What people, or the goal, were to choose: the question with its options, and which was taken, by whom and why."""
    weighed = run.named("people.weigh_options")
    found: list[Facts] = []
    for call in run.named("people.choose", ok=False):
        options = dicts(call.arguments.get("options"))
        source = next((w for w in weighed if w.data.get("plot_path") == call.arguments.get("plot")), None)
        found.append(
            {
                "call": call.id,
                "topic": str(call.arguments.get("topic") or ""),
                "question": str(call.arguments.get("question") or ""),
                "options": options,
                "columns": list(dict.fromkeys(name for o in options for name in _numbers(o))),
                "chosen": str(call.data.get("chosen") or ""),
                "decided_by": str(call.data.get("decided_by") or ""),
                "note": str(call.data.get("note") or ""),
                "message": call.message,
                "plot": run_link(run, call.arguments.get("plot")),
                "front": _front(run, source) if source else {},
            }
        )
    return found


def _numbers(option: Facts) -> Facts:
    found = option.get("numbers")
    return found if isinstance(found, dict) else {}


def _front(run: RecordedRun, call: Call) -> Facts:
    """The trials that were weighed, for a chart: metric, objectives, and each trial's measures."""
    trials = dicts(read_json(run, call.arguments.get("trials_path")).get("trials"))
    kept = ("number", "value", "latency_ms", "size_bytes", "fairness_gap")
    numbers = call.data.get("trials")
    return {
        "metric": str(call.data.get("metric") or ""),
        "objectives": [str(name) for name in call.data.get("objectives") or ()],
        "trials": [{name: number_of(trial.get(name)) for name in kept} for trial in trials],
        "options": numbers if isinstance(numbers, dict) else {},
    }


def comparison(run: RecordedRun) -> Facts | None:
    """The judge's paired comparison on the holdout, the newest."""
    found = run.named("judge.compare_models")
    return {"call": found[-1].id, **found[-1].data} if found else None


def retraining(run: RecordedRun) -> Facts | None:
    """The judge's decision on whether to act, the newest."""
    found = run.named("judge.decide_retraining")
    return {"call": found[-1].id, **found[-1].data} if found else None


def canary(run: RecordedRun) -> Facts | None:
    """The canary: looks of the judge, the newest trajectory, and the traffic batch by batch."""
    verdicts = run.named("judge.judge_canary")
    started = run.named("serving.start_canary")
    if not verdicts and not started:
        return None
    since = started[0].start_s if started else 0.0
    trajectory: Facts = {}
    for call in reversed(verdicts):
        trajectory = read_json(run, call.data.get("trajectory_path"))
        if trajectory:
            break
    sent = [call for call in run.named("serving.send_traffic") if call.start_s >= since and call.data.get("challenger")]
    batches: list[Facts] = [
        {"call": call.id, **{key: call.data.get(key) for key in ("batch", "requests", "failed_requests")},
         "champion": _variant(call.data.get("champion")), "challenger": _variant(call.data.get("challenger"))}
        for call in sent
    ]  # fmt: skip
    last = verdicts[-1] if verdicts else None
    return {
        "call": last.id if last else started[0].id,
        "percent": started[0].arguments.get("percent") if started else None,
        "verdict": last.data if last else {},
        "message": last.message if last else "The canary was not judged.",
        "looks": [
            {"call": v.id, "verdict": v.data.get("verdict"), "requests": v.data.get("requests"),
             "reasons": v.data.get("reasons") or []} for v in verdicts
        ],
        "trajectory": {**trajectory, "looks": dicts(trajectory.get("looks"))},
        "batches": batches,
        "routed": sum(int(call.data.get("routed") or 0) for call in sent),
        "fallbacks": sum(_fallbacks(call) for call in sent),
        "left_out": sum(int(b[who].get("left_out") or 0) for b in batches for who in ("champion", "challenger")),
    }  # fmt: skip


def _fallbacks(call: Call) -> int:
    """Requests of a batch that the champion answered in the challenger's place."""
    found = call.data.get("fallbacks")
    return sum(int(count) for count in found.values()) if isinstance(found, dict) else 0


def _variant(measured: Any) -> Facts:
    """A variant's traffic in one batch, with the share of its answers that failed."""
    found: Facts = measured if isinstance(measured, dict) else {}
    scored, errors = number_of(found.get("scored")), number_of(found.get("errors"))
    asked = None if scored is None or errors is None else scored + errors
    return {**found, "error_rate": errors / asked if asked and errors is not None else None}


def production(run: RecordedRun) -> list[Facts]:
    """What was measured of production, one row per watch and variant."""
    rows = []
    for call in run.named("prometheus.watch"):
        whole = {"variant": "all", "requests": call.data.get("requests"), "error_rate": call.data.get("error_rate"),
                 "latency_p95_ms": call.data.get("latency_p95_ms")}  # fmt: skip
        rows += [
            {"call": call.id, "window_s": call.data.get("window_s"), **variant}
            for variant in dicts(call.data.get("variants")) or [whole]
        ]
    return rows


def versions(run: RecordedRun) -> list[Facts]:
    """The registry's versions as last listed; else those this run registered."""
    listed = run.named("mlflow.list_versions")
    if listed:
        return dicts(listed[-1].data.get("versions"))
    return [
        {**{key: call.data.get(key) for key in ("version", "model_uri", "run_id")},
         "aliases": [], "created": "", "retired": None, "note": str(call.arguments.get("note") or "")}
        for call in reversed(run.named("mlflow.register_model"))
    ]  # fmt: skip
