"""A copy of the project's sources with a scaffolded integration, and a way to load that integration here."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tools.integrations
from tools.core.contract import Integration

ROOT = Path(__file__).parents[2]
COPIED = (
    "crew", "tools", "tasks", "config", "tests/contracts/test_contract_suite.py", "tests/conftest.py",
    "docs/settings.md", "docs/integrations.md", ".env.example", "pyproject.toml",
)  # fmt: skip


def copy_of_the_project(target: Path) -> Path:
    """The sources that a scaffold changes and the contract suite needs."""
    for name in COPIED:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place)
    return target


@contextmanager
def loaded(project: Path, name: str) -> Iterator[Integration]:
    """The spec of an integration that only `project` has; forgotten afterwards, so that a changed one can be loaded."""
    folder = str(project / "tools" / "integrations")
    tools.integrations.__path__.append(folder)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # a change within a second must be seen
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(f"tools.integrations.{name}.spec").SPEC
    finally:
        sys.dont_write_bytecode = writes
        tools.integrations.__path__.remove(folder)
        for module in [key for key in sys.modules if key.startswith(f"tools.integrations.{name}")]:
            del sys.modules[module]
        if hasattr(tools.integrations, name):
            delattr(tools.integrations, name)
