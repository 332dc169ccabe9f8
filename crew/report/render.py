"""Puts a run's facts into one self-contained HTML file and a JSON of the same."""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from crew import words
from crew.report import charts, drift, evidence, story, svg, timeline
from crew.report.collect import RecordedRun, read_run
from tools.core.clean import clean_text
from tools.core.files import write_text

FORMAT = 1
MOST_HISTOGRAMS = 6


@dataclass(frozen=True)
class ReportPaths:
    """Where the report was written."""

    html: Path
    json: Path


def write_report(run_folder: Path) -> ReportPaths:
    """Write `report.html` and `report.json` into a run's folder, from its journal and the files that it names.

    Works for a run that failed, was cut off, or still goes on; files that are missing leave their part out. Writing
    again replaces both.

    Raises:
        FileNotFoundError: the folder holds no journal.
        OSError: the report cannot be written.
    """
    run = read_run(run_folder)
    facts = report_facts(run)
    paths = ReportPaths(html=run_folder / "report.html", json=run_folder / "report.json")
    write_text(paths.json, json.dumps(facts, indent=1, default=str, allow_nan=False) + "\n")
    write_text(paths.html, report_html(run, facts))
    return paths


def report_facts(run: RecordedRun) -> dict[str, Any]:
    """Everything the report shows, as JSON data; the keys are in the order of the page."""
    decisions = story.decisions(run)
    return evidence.finite(
        {
            "format": FORMAT,
            "run": {
                "id": run.id,
                "started": run.started.isoformat() if run.started else None,
                "duration_s": run.duration_s,
                "outcome": run.outcome,
                "exit_code": run.exit_code,
                "goal_name": run.goal_name,
                "process": run.process,
                "mode": run.mode,
                "model": run.model,
                "mode_note": run.mode_note,
                "autonomy": run.autonomy,
                "seed": run.seed,
                "goal_path": run.goal_path,
                "journal_records": run.records,
                "journal_damage": run.damage,
                "errors": run.errors,
            },
            "verdict": dataclasses.asdict(story.verdict(run, decisions)),
            "tasks": [dataclasses.asdict(step) for step in run.steps],
            "drift": drift.drift(run),
            "estimated": drift.estimated(run),
            "evaluations": evidence.evaluations(run),
            "forecasts": evidence.forecasts(run),
            "retraining": evidence.retraining(run),
            "searches": evidence.searches(run),
            "choices": evidence.choices(run),
            "comparison": evidence.comparison(run),
            "canary": evidence.canary(run),
            "production": evidence.production(run),
            "data_checks": evidence.data_checks(run),
            "versions": evidence.versions(run),
            "decisions": [dataclasses.asdict(decision) for decision in decisions],
            "calls": [dataclasses.asdict(call) for call in run.calls],
            "guardrails": [
                {key: record.get(key) for key in ("task", "ok", "reason", "attempt")} for record in run.guardrails
            ],
            "usage": _usage(run),
            "goal": run.goal,
            "versions_of_libraries": run.versions,
        }
    )


def report_html(run: RecordedRun, facts: dict[str, Any]) -> str:
    """The page. Everything that comes from the run is cleaned and escaped; no script runs in it, whatever it holds."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=ChainableUndefined,  # a result of another version may lack a field
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": words.number,
        "duration": lambda value: words.duration(evidence.number_of(value)),
        "title_of": words.title,
        "pretty": _pretty,
        "percent": lambda value: words.DASH if (share := evidence.number_of(value)) is None else f"{share:.1%}",
        "moment": lambda text: str(text or "")[:19].replace("T", " ") or words.DASH,
    }
    return environment.get_template("template.html.j2").render(
        **facts,
        charts=_charts(run, facts),
        goal_rows=_flat(facts["goal"]),
        steps=run.steps,
        how=lambda step: story.how(run, step),
        calls_by_id={call["id"]: call for call in facts["calls"]},
        status_counts=Counter(call["status"] for call in facts["calls"]),
        generated=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        legend=svg.key,
    )


def _clean(value: Any) -> Any:
    """Every value that the template writes; charts are markup whose texts are escaped, and are cleaned too."""
    return type(value)(clean_text(value)) if isinstance(value, str) else value


def _charts(run: RecordedRun, facts: dict[str, Any]) -> dict[str, Any]:
    drifted, canary, compared = facts["drift"], facts["canary"], facts["comparison"]
    trajectory = canary["trajectory"] if canary else {}
    course, course_key = timeline.evidence_course(trajectory)
    metric = next((e["metric"] for e in facts["evaluations"]), "")
    return {
        "drift": charts.drift_bars(drifted["columns"]) if drifted else "",
        "histograms": _histograms(drifted) if drifted else [],
        "forecasts": [charts.forecast(found) for found in facts["forecasts"]],
        "metric": charts.metric_over_time(facts["evaluations"], _marks(run), metric, _minimum(facts["goal"])),
        "trials": charts.trials(facts["searches"]),
        "fronts": [charts.front(choice["front"], choice["chosen"]) for choice in facts["choices"]],
        "comparison": charts.interval(
            compared.get("difference_low"), compared.get("difference"), compared.get("difference_high"),
            "difference, challenger against champion (right: better)",
        ) if compared else "",
        "confidence": timeline.confidence(trajectory, str(trajectory.get("measure") or "difference")),
        "course": course,
        "course_key": svg.key(course_key) if course_key else "",
        "latency": timeline.latency(canary["batches"]) if canary else "",
        "gantt": timeline.gantt(run),
    }  # fmt: skip


def _histograms(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the columns that drifted, by the judge first, then by Evidently; of the least stable ones when none did."""
    known = [c for c in found["columns"] if isinstance(found["histograms"].get(c["column"]), dict)]
    judged = [c for c in known if c["judge"] and c["judge"].get("drifted")]
    chosen = [*judged, *(c for c in known if c.get("drifted") and c not in judged)] or known[:2]
    drawn = [
        {"column": c["column"], "drifted": c.get("drifted"), "method": c.get("method"), "score": c.get("score"),
         "threshold": c.get("threshold"), "svg": charts.histogram(c["column"], found["histograms"][c["column"]])}
        for c in chosen[:MOST_HISTOGRAMS]
    ]  # fmt: skip
    return [item for item in drawn if item["svg"]]


def _marks(run: RecordedRun) -> list[tuple[float, str]]:
    """The decision points of the metric chart."""
    marks: list[tuple[float, str]] = []
    for call in run.calls:
        if not call.ok:
            continue
        at = call.start_s + (call.duration_s or 0.0)
        if call.name == "judge.decide_retraining":
            marks.append((at, "act" if call.data.get("act") else "no action"))
        elif call.name == "judge.compare_models":
            marks.append((at, "better" if call.data.get("better") else "not better"))
        elif call.name in ("serving.start_canary", "serving.promote_canary", "serving.rollback_canary"):
            marks.append((at, {"start": "canary starts", "promo": "promoted", "rollb": "rolled back"}[call.action[:5]]))
    return marks


def _minimum(goal: dict[str, Any]) -> float | None:
    constraints = goal.get("constraints")
    return evidence.number_of(constraints.get("min_metric")) if isinstance(constraints, dict) else None


def _usage(run: RecordedRun) -> dict[str, Any]:
    used = [step for step in run.steps if step.tokens]
    costs = [step.cost_usd for step in used if step.cost_usd is not None]
    return {
        "tasks_with_llm": len(used),
        "prompt_tokens": sum(_count(step.tokens, "prompt") for step in used),
        "completion_tokens": sum(_count(step.tokens, "completion") for step in used),
        "cost_usd": round(sum(costs), 6) if costs else None,
    }


def _count(tokens: dict[str, int] | None, key: str) -> int:
    return int(evidence.number_of((tokens or {}).get(key)) or 0)


def _flat(goal: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in goal.items():
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{prefix}{name}.")
        elif value not in (None, "", [], {}):
            rows.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, default=str, ensure_ascii=False)
