"""What the judge can do, assembled from one module per topic: champion, canary, drift, outlook, A/B tests.

Ranges and the task are checked by the backend: in the schema they would cost every agent tokens on every request.
"""

from tools.core.contract import Integration
from tools.integrations.judge.ab_spec import AB_ACTIONS
from tools.integrations.judge.canary_spec import CANARY_ACTIONS
from tools.integrations.judge.champion_spec import CHAMPION_ACTIONS
from tools.integrations.judge.drift_spec import DRIFT_ACTIONS
from tools.integrations.judge.outlook_spec import OUTLOOK_ACTIONS

SPEC = Integration(
    name="judge",
    title="Judge",
    summary="Decides on retraining, comparison and canaries from scores and evidence.",
    actions=(*CHAMPION_ACTIONS, *CANARY_ACTIONS, *DRIFT_ACTIONS, *OUTLOOK_ACTIONS, *AB_ACTIONS),
    backend="tools.integrations.judge.backend:JudgeBackend",
    requires=("numpy", "scipy", "pandas"),
    imports=("scipy",),
)
