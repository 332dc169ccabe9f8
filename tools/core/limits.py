"""What a run has used up of the policy's limits."""

from tools.core.calls import Call


class Usage:
    """Amounts by limit name. Kept on the gateway's event loop, so it needs no lock."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}

    @property
    def used(self) -> dict[str, float]:
        """Limit name -> amount so far, a copy."""
        return dict(self._used)

    def add(self, call: Call) -> None:
        """Count a call that is about to be made."""
        amounts = {limit: call.arguments.get(argument) for argument, limit in call.limited.items()}
        amounts["calls"] = 1
        for limit, amount in amounts.items():
            if isinstance(amount, int | float):
                self._used[limit] = self._used.get(limit, 0.0) + amount
