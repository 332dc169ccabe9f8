"""Opening the gateway from a project folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.core.yamlfile import ConfigError
from tools.session import open_gateway, project_folder

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("policy.yaml", "stack.yaml"):
        (tmp_path / "config").mkdir(exist_ok=True)
        shutil.copyfile(CONFIG / name, tmp_path / "config" / name)
    return tmp_path


def test_the_shipped_policy_and_stack_open(project: Path) -> None:
    with open_gateway(project, env={}) as gateway:
        assert set(gateway.policy.file.integrations) == set(gateway.stack.own)
    assert (project / ".mlops" / "runs" / gateway.run_id / "journal.jsonl").is_file()


def test_a_misspelt_rule_in_the_policy_file_stops_the_start(project: Path) -> None:
    policy = project / "config" / "policy.yaml"
    changed = policy.read_text().replace('serving: {allow: "*",', 'serving: {allow: "*", forbid: [promote_canry],')
    assert changed != policy.read_text()
    policy.write_text(changed)
    with pytest.raises(
        ConfigError, match=r"policy\.yaml.*serving.*unknown action 'promote_canry', did you mean 'promote_canary'"
    ):
        open_gateway(project, env={})


@pytest.mark.parametrize("name", ["policy.yaml", "stack.yaml"])
def test_a_missing_file_is_named(project: Path, name: str) -> None:
    (project / "config" / name).unlink()
    with pytest.raises(ConfigError, match=f"{name}: no such file"):
        open_gateway(project, env={})


def test_the_project_is_found_from_a_folder_below_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.delenv("MLOPS_PROJECT", raising=False)
    monkeypatch.chdir(below)
    assert project_folder() == project


@pytest.mark.parametrize("module", ["contract", "policy", "journal", "approval", "redact", "stack", "schema"])
def test_what_needs_no_mcp_imports_none(module: str) -> None:
    program = f"import sys, tools.core.{module}; sys.exit('mcp' in sys.modules or 'anyio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_program_that_forgets_to_close_ends_all_the_same(project: Path) -> None:
    program = "from tools import call_tool_sync; print(call_tool_sync('judge', {'action': 'unheard_of'}).status)"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.strip() == "failed" and ended.stderr == ""
