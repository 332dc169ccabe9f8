"""An integration without a system to call is held to the contract too: a mutant fails, and its fault is named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crew.scaffold.write import New, render
from tests.helpers.scaffolded import loaded
from tools.core import contract_suite as suite
from tools.core.contract import CallContext
from tools.core.dispatch import run_action
from tools.core.results import ToolResult

NAME = "notebook"
READS = "        notes = _read(_file(ctx))\n        if not notes:\n"
SECRET = '    extra="notebook",\n    settings=(Setting("NOTEBOOK_TOKEN", "a token of the test", secret=True),),\n'

# What is changed, as (file, old, new) each, and what the suite says of it.
MUTANTS: dict[str, tuple[list[tuple[str, str, str]], str]] = {
    "a read that writes into the store": (
        [("backend.py", READS, '        _file(ctx).with_suffix(f".{time.time_ns()}").touch()\n' + READS),
         ("backend.py", "import json\n", "import json\nimport time\n")],
        "list_notes reads, yet it changed .mlops/notebook",
    ),
    "a read that writes into the project": (
        [("backend.py", READS, '        (ctx.project / str(time.time_ns())).touch()\n' + READS),
         ("backend.py", "import json\n", "import json\nimport time\n")],
        "list_notes reads, yet it changed ",
    ),
    "a write declared a read": (
        [("spec.py", "effect=Effect.WRITE,", "effect=Effect.READ,"),
         ("contract.py", '    Example("list_notes"),\n', ""),
         ("backend.py", "if args.text not in notes:", "if True:")],
        "add_note reads, yet it changed",
    ),
    "a secret in a result": (
        [("spec.py", '    extra="notebook",\n', SECRET),
         ("spec.py", "Integration, NoArgs", "Integration, NoArgs, Setting"),
         ("backend.py", 'message=f"{len(notes)} notes")\n\n    def health',
          'message=str(self.settings))\n\n    def health')],
        "shows the value of NOTEBOOK_TOKEN",
    ),
    "a secret in a message": (
        [("spec.py", '    extra="notebook",\n', SECRET),
         ("spec.py", "Integration, NoArgs", "Integration, NoArgs, Setting"),
         ("backend.py", '"there are no notes"', 'f"none for {self.settings}"')],
        "shows the value of NOTEBOOK_TOKEN",
    ),
    "another status than its example's": (
        [("contract.py", "status=Status.NO_DATA", "status=Status.OK")], "notebook.list_notes",
    ),
    "a library that its spec does not name": (
        [("backend.py", "import json\n", "import json\n\nimport jinja2\n")],
        "imports jinja2, which its spec does not name",
    ),
}  # fmt: skip


def faults_of(project: Path) -> list[str]:
    """What the suite says of the integration, one sentence for each check that fails."""
    found: list[str] = []
    with loaded(project, NAME) as spec:
        backend = spec.load_backend(spec.resolve_settings({}))
        context = CallContext(project=project, home=project / ".mlops", run_id="contract")

        def call(action: str, arguments: Mapping[str, Any]) -> ToolResult:
            return run_action(spec, backend, action, arguments, context)

        checks: list[Any] = [lambda check=check: check(spec) for check in suite.STATIC_CHECKS]
        for example in suite.examples_of(spec):
            checks += [
                lambda example=example: suite.check_no_secret(spec, example, {}, project),
                lambda example=example: suite.check_example(spec, example, call),
                lambda example=example: suite.check_read_leaves_no_trace(spec, example, call, project),
            ]
        for check in checks:
            try:
                check()
            except AssertionError as error:
                found.append(str(error))
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "tools" / "integrations" / NAME
    folder.mkdir(parents=True)
    for name, text in render(New(NAME, "Notebook", remote=False)).items():
        (folder / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_what_is_not_mutated_passes(project: Path) -> None:
    assert faults_of(project) == []


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_and_its_fault_is_named(mutant: str, project: Path) -> None:
    changes, told = MUTANTS[mutant]
    for file, old, new in changes:
        path = project / "tools" / "integrations" / NAME / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"the template has changed: {old}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
    faults = faults_of(project)
    assert any(told in fault for fault in faults), faults
