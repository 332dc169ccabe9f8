"""What was decided about the challenger: by the canary, by whoever settled it, by the A/B test where there was one."""

from dataclasses import dataclass
from typing import Literal

from tasks import ab_test, canary, settle_canary
from tasks.base import Inputs


@dataclass(frozen=True)
class ReleaseDecision:
    """`why` goes on after "the canary"; `summary` is in the judge's own words; `next_row` is the first row of the live
    slice that no test has sent."""

    verdict: Literal["promote", "rollback", "wait"]
    why: str
    summary: str
    next_row: int


def decided(inputs: Inputs) -> ReleaseDecision:
    """The canary's verdict, what was chosen where it had none, or the A/B test's once the canary has passed."""
    judged = inputs.need("canary", canary.Result)
    tested = inputs.get("ab_test", ab_test.Result)
    if tested is None or judged.verdict != "promote":
        settled = inputs.get("settle_canary", settle_canary.Result)
        if judged.verdict == "wait" and settled is not None and not settled.open and settled.choice == "promote":
            return ReleaseDecision("promote", "is to be promoted without proof", judged.summary, judged.next_row)
        harmful = judged.verdict == "rollback"
        why = "was harmful" if harmful else "was not proven safe with the requests there were"
        return ReleaseDecision(judged.verdict, why, judged.summary, judged.next_row)
    verdict = "promote" if tested.promotes else "wait" if tested.undecided else "rollback"
    why = "was left undecided by the A/B test" if tested.undecided else "did not win the A/B test"
    return ReleaseDecision(verdict, why, tested.summary, tested.next_row)
