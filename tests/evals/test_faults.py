"""Faults that a case brings in."""

import pytest

from evals import faults
from tools.core.errors import RetryableError
from tools.registry import load_spec


def test_a_flaky_action_fails_as_often_as_stated_and_is_whole_again_afterwards() -> None:
    before = load_spec("judge")
    flaky = faults.Faults(flaky=[faults.Flaky(integration="judge", action="plan_canary", failures=2)])
    with faults.under(flaky, None):  # type: ignore[arg-type]  # no folder is needed without a server
        spec = load_spec("judge")
        backend = spec.load_backend({})
        arguments = spec.action("plan_canary").args.model_validate({"loss": 0.02})
        for _ in range(2):
            with pytest.raises(RetryableError):
                backend.plan_canary(arguments, None)  # type: ignore[attr-defined]
        assert backend.plan_canary(arguments, None).labelled_requests > 0  # type: ignore[attr-defined]
    assert load_spec("judge") is before
