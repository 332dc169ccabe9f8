"""A project to run commands in, and a way to run them in this process: a process for each would be slow."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ended]


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """Commands prepare the process's environment; the next test must not see it, nor the developer's own settings."""
    before = dict(os.environ)
    for name in ("MODEL", "MODEL_BASE_URL", "MLOPS_HOME", "MLOPS_PROJECT", "MLOPS_DEBUG", "MLOPS_STATUS_FILE"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped configuration and no data; also the working directory."""
    root = tmp_path / "project"
    shutil.copytree(CONFIG, root / "config")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def cli(folder: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run `mlops-crew` with arguments in the project."""
    from crew.cli import main

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        code = main(arguments)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")
