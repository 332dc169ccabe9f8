"""The reference rules of the canary benchmark behave as published."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """bench/canary.py, with the reference rules."""
    path = Path(__file__).parents[2] / "bench" / "canary.py"
    spec = importlib.util.spec_from_file_location("bench_canary", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_canary"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_reference_rules_show_their_published_weaknesses(rules: ModuleType):
    # Kayenta's issue 780; Flagger's false rollbacks; Argo's wrong ones with its default limit.
    assert rules.kayenta_passes(np.array([100.0] * 7 + [1.0] * 3), np.ones(10))
    assert not rules.kayenta_passes(np.full(10, 100.0), np.ones(10))
    equal = rules.Scenario("equal", "promote")
    traffic = [equal.traffic(seed) for seed in range(30)]
    assert np.mean([rules.flagger(t, threshold=1, accuracy=False).verdict == "rollback" for t in traffic]) > 0.5
    assert np.mean([rules.argo(t, limit=0).verdict == "rollback" for t in traffic]) > 0.5
    assert np.mean([rules.ours(t, "accuracy").verdict == "promote" for t in traffic]) > 0.9
