"""The judge's backend: one part per topic, each in a module of its own."""

from tools.core.contract import CallContext
from tools.integrations.judge.ab_actions import AbActions
from tools.integrations.judge.canary_actions import CanaryActions
from tools.integrations.judge.champion_actions import ChampionActions
from tools.integrations.judge.drift_actions import DriftActions
from tools.integrations.judge.outlook_actions import OutlookActions


class JudgeBackend(ChampionActions, CanaryActions, DriftActions, OutlookActions, AbActions):
    """The judge's actions on files: `readers` reads them, `tools.judge` answers."""

    def health(self, ctx: CallContext) -> str:
        import scipy

        return f"statistics on scipy {scipy.__version__}"
