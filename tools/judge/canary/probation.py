"""After a promotion: does the new champion keep what the canary promised?

The former champion goes on scoring in the shadow, so what is new is judged like a canary, by fresh e-processes: the
canary's requests whose labels did not count at the promotion, and the traffic after it. The level is spent again: a
promotion that was right is undone with probability at most `alpha`, on top of the canary's own `alpha`.
"""

from dataclasses import dataclass
from typing import Literal

from tools.judge.canary.checks import Check
from tools.judge.canary.quality import Evidence, Rules
from tools.judge.canary.verdict import judge, trace
from tools.judge.sequential import log_threshold


@dataclass(frozen=True)
class Probation:
    """What was found, in the roles after the promotion: the champion is the former challenger."""

    verdict: Literal["restore", "confirmed", "open"]
    reasons: list[str]
    requests: int
    labelled: int
    label_share: float | None
    measure: str
    former_value: float | None
    champion_value: float | None
    checks: list[Check]


def judge_probation(evidence: Evidence, rules: Rules) -> Probation:
    """The verdict on the requests that were not judged before the promotion.

    Args:
        evidence: in the roles of the canary: the challenger is the model that was promoted.
    """
    found = judge(evidence, rules)
    if found.verdict == "rollback":
        verdict, reasons = "restore", [_in_new_roles(reason) for reason in found.reasons]
    elif len(evidence) and _proven(evidence, rules):
        verdict = "confirmed"
        reasons = [f"quality: proven again to be within the tolerance on {found.labelled} labelled requests."]
    else:
        verdict = "open"
        share = (
            "none is old enough for a label" if found.label_share is None else f"{found.label_share:.0%} of those due"
        )
        reasons = [f"no harm is proven on {found.labelled} labelled of {found.requests} requests ({share})."]
    return Probation(
        verdict, reasons, found.requests, found.labelled, found.label_share, found.measure,
        found.champion_value, found.challenger_value, found.checks,
    )  # fmt: skip


def _in_new_roles(reason: str) -> str:
    """A canary's reason in the roles after the promotion."""
    return reason.replace("the champion", "the former champion").replace("the challenger", "the new champion")


def _proven(evidence: Evidence, rules: Rules) -> bool:
    traced = trace(evidence, rules)
    passed = all(check.passed[-1] for check in traced.checks if check.name == "failures" or "segment" in check.name)
    return bool(traced.proof[-1] >= log_threshold(rules.alpha) and traced.maturity.enough[-1] and passed)
