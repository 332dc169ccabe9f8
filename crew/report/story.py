"""What was decided in a run, why, on what evidence and by whom. Pure: from the journal's calls and steps."""

from dataclasses import dataclass, field
from typing import Any

from crew.report.collect import Call, RecordedRun, Step
from crew.words import Tone, headline, number, sentence, title


@dataclass
class ToldDecision:
    """One decision. `by` names the role and how it decided, or the person; `evidence` are call ids."""

    at_s: float
    what: str
    result: str
    tone: Tone
    why: str
    by: str
    evidence: list[str] = field(default_factory=list[str])


@dataclass
class Headline:
    """The banner: the outcome in words, why, on which calls it rests, and who decided."""

    headline: str
    tone: Tone
    summary: str
    reasons: list[str]
    evidence: list[str]
    by: str


def how(run: RecordedRun, step: Step | None) -> str:
    """Who chose the calls of a task: its runbook, an LLM, or the runbook after the LLM failed."""
    mode = step.mode if step else run.mode
    if step and step.fallback:
        return "runbook, after the LLM failed"
    if mode == "llm":
        return f"LLM {run.model}".strip()
    return mode or "a person"


def decisions(run: RecordedRun) -> list[ToldDecision]:
    """Everything that was decided, oldest first: by the judge and the checks, by the policy, by people."""
    steps = {step.task: step for step in run.steps if step.state != "skipped"}
    found: list[ToldDecision] = []
    for call in run.calls:
        by = f"{title(call.role)} ({how(run, steps.get(call.task))})" if call.role else "a person"
        found += _of_people(call)
        if made := _of_call(call, by):
            found.append(made)
    return sorted(found, key=lambda decision: decision.at_s)


def _of_people(call: Call) -> list[ToldDecision]:
    if call.name == "people.choose":
        return [] if call.decision in ("deny", "invalid") else [_choice(call)]
    if not call.decided_by:
        return []
    approved = call.status not in ("denied", "needs_approval")
    result: tuple[str, Tone] = ("approved", "good") if approved else ("not approved", "warn")
    why = call.note or call.rule
    return [ToldDecision(call.start_s, f"May {call.name} run?", *result, why, call.decided_by, [call.id])]


def _choice(call: Call) -> ToldDecision:
    """A question to choose: answered by a person or by the goal, or not at all."""
    what, at = str(call.arguments.get("question") or call.name), call.start_s + (call.duration_s or 0.0)
    if not call.ok:
        return ToldDecision(at, what, "nobody chose", "warn", call.message, call.decided_by or "nobody", [call.id])
    by, why = str(call.data.get("decided_by") or ""), str(call.data.get("note") or call.data.get("consequences") or "")
    return ToldDecision(at, what, str(call.data.get("title") or call.data.get("chosen")), "good", why, by, [call.id])


def _of_call(call: Call, by: str) -> ToldDecision | None:
    data, at = call.data, call.start_s + (call.duration_s or 0.0)
    if call.decision == "deny":
        return ToldDecision(at, f"May {call.name} run?", "denied", "warn", call.rule, "the policy", [call.id])
    if not call.ok:
        return None
    answers = _ANSWERS.get(call.name)
    if answers:
        what, key, table = answers
        result, tone = table.get(data.get(key), (str(data.get(key)), "neutral"))
        return ToldDecision(at, what, result, tone, _why(call), by, [call.id])
    if call.effect == "risky":
        evidence = [call.id]
        why = str(call.arguments.get("reason") or call.rule)
        return ToldDecision(at, sentence(call.action), call.message or "done", "neutral", why, by, evidence)
    return None


_ANSWERS: dict[str, tuple[str, str, dict[Any, tuple[str, Tone]]]] = {
    "great_expectations.validate": (
        "Is the data fit to be used?", "passed", {True: ("yes", "good"), False: ("no", "bad")},
    ),
    "judge.judge_drift": (
        "Did the data drift?", "drifted", {True: ("yes", "warn"), False: ("not proven", "good")},
    ),
    "judge.forecast_threshold": (
        "Is a threshold ahead?", "outlook",
        {"crossing": ("expected to be crossed", "warn"), "crossed": ("crossed already", "warn"),
         "no_crossing": ("rather not", "good"), "not_forecastable": ("not forecastable", "neutral")},
    ),
    "judge.find_anomalies": (
        "Is a metric unusual?", "unusual", {True: ("unusual", "warn"), False: ("as usual", "good")},
    ),
    "judge.decide_retraining": (
        "Did the champion get worse?", "act", {True: ("yes: act", "warn"), False: ("not proven", "neutral")},
    ),
    "judge.plan_retraining": (
        "Does a retraining pay?", "pays", {True: ("yes", "neutral"), False: ("no", "neutral")},
    ),
    "judge.weigh_gain": (
        "Would a new model win?", "wins",
        {True: ("yes, enough", "warn"), False: ("not enough, or not proven", "neutral")},
    ),
    "judge.compare_models": (
        "Is the challenger better?", "better",
        {True: ("yes", "good"), False: ("not proven: keep the champion", "neutral")},
    ),
    "judge.judge_canary": (
        "What becomes of the canary?", "verdict",
        {"promote": ("promote", "good"), "rollback": ("roll back", "bad"), "wait": ("wait", "neutral")},
    ),
    "judge.judge_probation": (
        "Does the new champion keep what it promised?", "verdict",
        {"confirmed": ("yes", "good"), "restore": ("no: restore the former one", "bad"),
         "open": ("no harm is proven", "neutral")},
    ),
}  # fmt: skip


def _why(call: Call) -> str:
    reasons = call.data.get("reasons")
    if isinstance(reasons, list) and reasons:
        return " ".join(str(reason) for reason in reasons)
    return str(call.data.get("reason") or call.message)


def verdict(run: RecordedRun, made: list[ToldDecision]) -> Headline:
    """The banner of the report."""
    words, tone = headline(run.outcome, run.production)
    calls = {
        "promoted": _newest(run, "judge.judge_canary", "judge.compare_models", "judge.decide_retraining"),
        "rolled_back": _newest(
            run, "judge.judge_probation", "judge.judge_canary", "judge.compare_models", "judge.decide_retraining"
        ),
        "inconclusive": _newest(run, "judge.judge_canary", "judge.compare_models", "judge.decide_retraining"),
        "champion_kept": _newest(run, "judge.compare_models", "judge.judge_canary", "judge.decide_retraining"),
        "no_action": _newest(
            run, "judge.decide_retraining", "judge.weigh_gain", "judge.plan_retraining", "judge.judge_drift"
        ),
        "undecided": [c for c in run.named("people.choose", ok=False) if not c.ok],
        "data_rejected": [c for c in run.named("great_expectations.validate") if not c.data.get("passed")],
    }.get(run.outcome)
    reasons: list[str] = []
    if calls is None:  # failed, stopped, unfinished: what went wrong, not what was decided
        reasons = [error for error in run.errors if error != run.summary]
        calls = [call for call in run.calls if call.status in ("failed", "unknown", "unfinished")][-3:]
        reasons += [
            f"{c.name}: {c.message or 'it had not returned'}" for c in calls if not _is_told(c.message, reasons)
        ]
    else:
        reasons = [f"{_SUBJECTS.get(call.name, call.name)}: {_why(call)}" for call in calls]
        reasons += [
            f"{finding.get('column') or 'the table'}: {finding.get('reason')}"
            for call in calls
            for finding in call.data.get("critical") or []
        ]
    if run.damage:
        reasons.append(f"The journal is damaged: {run.damage}.")
    return Headline(words, tone, run.summary, reasons, [call.id for call in calls], _by(run, made))


_SUBJECTS = {
    "judge.judge_canary": "Canary",
    "judge.judge_probation": "Probation",
    "judge.compare_models": "Offline comparison",
    "judge.decide_retraining": "Champion",
    "judge.plan_retraining": "Retraining",
    "judge.weigh_gain": "A new model",
    "judge.judge_drift": "Drift",
    "people.choose": "Choice",
    "great_expectations.validate": "Data checks",
}


def _newest(run: RecordedRun, *names: str) -> list[Call]:
    return [found[-1] for found in (run.named(name) for name in names) if found]


def _is_told(message: str, reasons: list[str]) -> bool:
    return bool(message) and any(message in reason for reason in reasons)


def _by(run: RecordedRun, made: list[ToldDecision]) -> str:
    """`6 tasks by their runbooks, 2 by the LLM ..., 2 approvals by maria`."""
    done = [step for step in run.steps if step.state != "skipped"]
    ways: dict[str, int] = {}
    for step in done:
        way = how(run, step)
        ways[way] = ways.get(way, 0) + 1
    people: dict[str, int] = {}
    for call in run.calls:
        if call.decided_by and call.decided_by != "nobody":
            people[call.decided_by] = people.get(call.decided_by, 0) + 1
    parts = [f"{count} {'task' if count == 1 else 'tasks'} by {way}" for way, count in ways.items()]
    parts += [f"{count} {'question' if count == 1 else 'questions'} answered by {who}" for who, count in people.items()]
    if not people and done:
        parts.append("no person was asked")
    return "; ".join(parts) or f"{number(len(made))} decisions"
