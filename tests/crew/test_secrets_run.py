"""A secret in every secret setting: after whole runs, one that ends well and one that fails, none is on disk."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crew.mlops_crew import MlopsCrew
from tests.helpers.tiny_project import make_project
from tools.core.credentials import encodings
from tools.core.journal import verify_journal
from tools.registry import INTEGRATIONS, load_spec

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

NAMED = [
    "OPENAI_API_KEY", "MODEL_API_KEY", "MLOPS_SERVER_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASS",
    "SMTP_PWD", "AZURE_STORAGE_CONNECTION_STRING", "DATABASE_URL", "SLACK_WEBHOOK_URL", "SERVICE_PAT", "HF_AUTH",
    "SENTRY_DSN",
]  # fmt: skip


def planted() -> dict[str, str]:
    """A secret for every setting that a spec declares secret, and for names that say so."""
    declared = [s.name for name in INTEGRATIONS for s in load_spec(name).settings if s.secret]
    secrets = {name: f"qx7canary{number:02d}/+{name[::-1].lower()}" for number, name in enumerate([*declared, *NAMED])}
    # Settings that are used: an address keeps its form, and W&B stays offline.
    secrets |= {
        name: f"postgresql://u:{secrets[name][:11]}-pw@127.0.0.1:9/x" for name in ("OPTUNA_STORAGE", "DATABASE_URL")
    }
    secrets["AZURE_STORAGE_CONNECTION_STRING"] = "AccountName=a;AccountKey=qx7canaryAz+key==;EndpointSuffix=x"
    return secrets


@pytest.fixture
def project(tmp_path: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    for name in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT", *planted()):
        monkeypatch.delenv(name, raising=False)

    def make(**options: Any) -> Path:
        folder = make_project(tmp_path / "p", mlflow_database=mlflow_database, **options)
        lines = [f"{name}='{value}'" for name, value in planted().items()]
        (folder / ".env").write_text("\n".join([*lines, "WANDB_MODE=offline"]) + "\n")
        return folder

    return make


def found(home: Path, said: str) -> dict[str, list[str]]:
    """Where a planted secret is, in whichever spelling: file -> names of the settings."""
    needles: dict[bytes, str] = {}
    for name, value in planted().items():
        core = re.search(r"qx7canary[^@;]*", value)
        assert core is not None
        for form in (core[0][:18], *encodings(core[0].encode())):
            needles[form.encode()] = name
    places = {"the terminal": said.encode()}
    places |= {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    hits = {
        place: sorted({name for needle, name in needles.items() if needle in text}) for place, text in places.items()
    }
    return {place: names for place, names in hits.items() if names}


def test_the_search_itself_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "leak").write_text("\n".join(planted().values()))
    assert set(found(tmp_path, "")["leak"]) == set(planted())


def test_a_run_that_ends_well_writes_no_secret(project: Callable[..., Path], capfd: pytest.CaptureFixture[str]) -> None:
    folder = project(story="same")
    outcome = MlopsCrew(project=folder, on_record=functools.partial(print, flush=True)).run()
    assert outcome.exit_code == 0, outcome.summary
    captured = capfd.readouterr()
    assert found(folder / ".mlops", captured.out + captured.err) == {}
    assert verify_journal(outcome.folder / "journal.jsonl") == []


def test_a_run_that_fails_with_a_trainer_that_prints_its_environment_writes_no_secret(
    project: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    first = ["version_data", "check_data", "establish_champion"]
    folder = project(tasks=first, train={"trainer": "command: sh -c 'env; env | base64 -w0; env >&2; exit 3'"})
    outcome = MlopsCrew(project=folder, on_record=functools.partial(print, flush=True)).run()
    assert outcome.outcome == "failed"
    captured = capfd.readouterr()
    assert found(folder / ".mlops", captured.out + captured.err + outcome.summary) == {}
    assert verify_journal(outcome.folder / "journal.jsonl") == []
    assert os.environ["DB_PASS"], "the secrets were there to be found"
