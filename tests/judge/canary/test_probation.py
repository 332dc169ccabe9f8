"""After a promotion: only what was not judged before counts."""

import numpy as np
import pytest

from tests.helpers.canary_traffic import DELAY, LATE, traffic
from tools.judge.canary.probation import judge_probation
from tools.judge.canary.quality import Evidence
from tools.judge.canary.verdict import judge


@pytest.mark.parametrize(("loss", "verdict"), [(0.08, "restore"), (-0.03, "confirmed")])
def test_probation_judges_only_what_was_not_judged_before(loss: float, verdict: str):
    good, later = traffic(2000, 17, loss=-0.03), traffic(1500, 18, loss=loss)
    names = [name for name, values in vars(good).items() if values is not None]
    whole = Evidence(**{name: np.concatenate([getattr(good, name), getattr(later, name)]) for name in names})
    assert judge(whole, LATE).verdict != "rollback", "the whole hides what came after the promotion"
    found = judge_probation(whole.since(2000), LATE)
    assert found.verdict == verdict
    assert found.requests == 1500 and found.labelled == 1500 - DELAY
    assert judge_probation(whole.since(3400), LATE).verdict == "open"
