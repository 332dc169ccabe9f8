"""Whether a call may happen: default deny, the strictest rule wins, limits on amounts, conditions, autonomy levels.

The policy is pure: it reads `config/policy.yaml` once and answers. It never asks a person and never calls anything; the
gateway does what it says. No prompt or model output reaches it but the arguments it judges. What is used up is counted
elsewhere and handed in. This package must not write, sleep, or look at the clock but through the one it was given.
"""

from tools.core.policy.amounts import Limit, Window
from tools.core.policy.decide import ENVIRONMENT, Explanation, Policy
from tools.core.policy.file import Freeze, IntegrationPolicy, PolicyFile, Rule, When
from tools.core.policy.proposal import Decision, Level, ProposedCall, Step, Verdict
from tools.core.policy.review import Finding, review

__all__ = [
    "ENVIRONMENT",
    "Decision",
    "Explanation",
    "Finding",
    "Freeze",
    "IntegrationPolicy",
    "Level",
    "Limit",
    "Policy",
    "PolicyFile",
    "ProposedCall",
    "Rule",
    "Step",
    "Verdict",
    "When",
    "Window",
    "review",
]
