"""A policy tried on what journals recorded: which decisions would have been others. Nothing is called.

What a limit counts is counted anew: a call that the new policy denies uses nothing up. A call that was refused before
the policy saw it (unknown, wrong arguments, not of its task, a stop) is left out, and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tools.core.contract import Action
from tools.core.policy import Policy, ProposedCall, Verdict, Window
from tools.core.policy.amounts import AmountError, amounts_of

Record = Mapping[str, Any]
_SPAN_S: dict[Window, float] = {Window.HOUR: 3600.0, Window.DAY: 86400.0}
_FOREIGN = "belongs to no task"  # in the rule of a risky call outside of every task


@dataclass(frozen=True)
class Change:
    """A recorded decision that would be another one."""

    run: str
    call_id: str
    at: str
    call: str
    arguments: Mapping[str, Any]
    role: str | None
    task: str | None
    before: str
    after: str
    rule_before: str
    rule_after: str


@dataclass
class Trial:
    """What came of it. `left_out`: why -> how many; `kinds`: `allow -> deny` and so on -> how many."""

    looked_at: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    changes: list[Change] = field(default_factory=list[Change])

    @property
    def kinds(self) -> Counter[str]:
        return Counter(f"{change.before} -> {change.after}" for change in self.changes)


@dataclass(frozen=True)
class Project:
    """What a journal does not say of its calls.

    Args:
        action: (integration, action) -> the definition; None: not one of ours, or no longer there.
        granted: role -> what it may use; None: no role of the project (an outside client).
        own_tasks: the tasks that state their calls.
    """

    action: Callable[[str, str], Action | None]
    granted: Callable[[str], frozenset[str] | None]
    own_tasks: frozenset[str]


def replay(journals: Mapping[str, Iterable[Record]], policy: Policy, project: Project) -> Trial:
    """Judge every recorded call again, in the order of time, each at its own time.

    Args:
        journals: run id -> its records, of any format.
    """
    trial = Trial()
    spent = _Spent()
    found = [(run, record) for run, records in journals.items() for record in _calls(list(records), trial)]
    for run, record in sorted(found, key=lambda item: str(item[1]["ts"])):
        trial.looked_at += 1
        at = datetime.fromisoformat(str(record["ts"]))
        call = _proposed(record, policy, project)
        outside = call.role is None or project.granted(call.role) is None
        call = replace(call, used=spent.used(policy, run, outside, at.timestamp()))
        decision = policy.explain(call, at).decision
        if decision.verdict is not Verdict.DENY and record["made"]:
            spent.add(run, call, at.timestamp())
        if decision.verdict.value != record["decision"]:
            trial.changes.append(
                Change(
                    run=run,
                    call_id=str(record["call_id"]),
                    at=str(record["ts"]),
                    call=call.name,
                    arguments=call.arguments,
                    role=call.role,
                    task=call.task,
                    before=str(record["decision"]),
                    after=decision.verdict.value,
                    rule_before=str(record.get("rule") or ""),
                    rule_after=decision.rule,
                )
            )
    return trial


def _calls(records: list[Record], trial: Trial) -> Iterable[dict[str, Any]]:
    """The recorded calls that a policy decided on, each with `made`: it happened, as far as is known."""
    outcomes = {record.get("call_id"): record for record in records if record.get("kind") == "outcome"}
    for record in records:
        if record.get("kind") != "intent":
            continue
        rule = str(record.get("rule") or "")
        if record.get("effect") is None or record.get("decision") not in ("allow", "ask", "deny"):
            trial.left_out["refused before the policy saw it"] += 1
        elif rule.startswith("stopped by "):
            trial.left_out["held by a stop"] += 1
        elif not isinstance(record.get("arguments"), Mapping):
            trial.left_out["its arguments are not in the journal"] += 1
        else:
            status = (outcomes.get(record.get("call_id")) or {}).get("status")
            # What was denied would have happened under a policy that allows it.
            made = record["decision"] == "deny" or status not in ("denied", "needs_approval")
            yield {**record, "made": made}


def _proposed(record: Record, policy: Policy, project: Project) -> ProposedCall:
    server, name = str(record["server"]), str(record["action"])
    action = project.action(server, name)
    role = record.get("role")
    task = record.get("task")
    granted = project.granted(role) if role is not None else None
    allowed = record["decision"] == "allow"
    asks = action is not None and action.asks
    return ProposedCall(
        integration=server,
        action=name,
        effect=action.effect if action is not None else policy.effect_of(server, name),
        arguments=record["arguments"],
        limited=action.limits() if action is not None else {},
        role=role,
        # An outside client may use what it was offered.
        granted=frozenset({server}) if role is not None and granted is None else granted,
        task=task,
        in_task=task in project.own_tasks and _FOREIGN not in str(record.get("rule") or ""),
        real=bool(record.get("real")),
        asks=asks,
        preference="as it was stated" if asks and allowed else "",
        preferred="what was preferred" if asks and allowed else "",
    )


class _Spent:
    """What the replayed calls used up, by run and by time."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, float]] = {}
        self._times: dict[str, list[tuple[float, float]]] = {}  # limit -> (time, amount), ascending

    def used(self, policy: Policy, run: str, outside: bool, at: float) -> dict[str, dict[Window, float]]:
        found: dict[str, dict[Window, float]] = {}
        for name, limit in policy.file.limits.items():
            # A journal is one run, or one session; which of an outside client's sessions it was is not recorded.
            counted: dict[Window, float] = {}
            for window in limit.windows(outside=outside):
                if window in _SPAN_S:
                    recent = (amount for when, amount in self._times.get(name, []) if when > at - _SPAN_S[window])
                    counted[window] = sum(recent)
                else:
                    counted[window] = self._runs.get(run, {}).get(name, 0.0)
            found[name] = counted
        return found

    def add(self, run: str, call: ProposedCall, at: float) -> None:
        try:
            amounts = amounts_of(call.arguments, call.limited)
        except AmountError:  # it was denied
            return
        for name, amount in amounts.items():
            total = self._runs.setdefault(run, {})
            total[name] = total.get(name, 0.0) + amount
            times = self._times.setdefault(name, [])
            times.append((at, amount))
            while times[0][0] <= at - max(_SPAN_S.values()):
                times.pop(0)
