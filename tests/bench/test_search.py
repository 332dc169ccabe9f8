"""The benchmark of the samplers runs."""

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.filterwarnings("default")
def test_the_benchmark_runs(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "bench" / "search.py"), "--quick", "--cache", str(tmp_path)]
    ended = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    for words in ("aging evolution", "NSGA-II", "Holm", "no trial saw"):
        assert words in ended.stdout
