"""Fixtures of the tests of models and data."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes its default store, `mlflow.db`, in the current folder, also where a model is only saved."""
    monkeypatch.chdir(tmp_path)
