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


def test_a_wrong_path_or_model_is_refused_and_journalled_before_the_policy_is_asked(project: Path) -> None:
    (project / ".env").write_text("SECRET=1")
    with open_gateway(project, env={}) as gateway:
        for tool, arguments in (
            ("evidently", {"action": "summarize_data", "data": ".env"}),
            ("dvc", {"action": "version_data", "paths": ["/etc/passwd"]}),
            ("dvc", {"action": "restore_version", "version": "abcd", "out": ".mlops/approvals"}),
            ("dvc", {"action": "version_data", "paths": ["a.csv"], "name": "../../evil"}),
            ("mlflow", {"action": "register_model", "model_uri": "http://127.0.0.1:9/m", "name": "m"}),
        ):
            result = gateway.call(tool, arguments)
            assert result.error is not None and result.error.kind == "fixable", result
            assert "valid" in result.message or "hidden" in result.message, result
        records = list(gateway.journal.records())
    assert [r["decision"] for r in records if r["kind"] == "intent"] == ["invalid"] * 5
    assert [r["status"] for r in records if r["kind"] == "outcome"] == ["failed"] * 5


def test_a_goals_data_are_the_roots_also_of_a_server_of_its_own(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    market = tmp_path_factory.mktemp("market")
    (market / "x.csv").write_text("a\n1\n")
    stack = project / "config" / "stack.yaml"
    stack.write_text("servers:\n  evidently: {transport: stdio}\nmcpServers: {}\n")
    with open_gateway(project, env={"PATH": "/bin"}, data=[str(market / "x.csv")]) as gateway:
        assert gateway.roots.read(str(market / "y.csv"))
        assert gateway.stack.config("evidently").env["MLOPS_DATA_ROOTS"] == str(market.resolve())
        for refused in ("top.csv", "/etc/passwd"):
            assert not gateway.call("evidently", {"action": "summarize_data", "data": refused}).ok
    with pytest.raises(ConfigError, match="more than data"):
        open_gateway(project, env={}, data_roots=["/"])


def test_the_state_folder_is_this_users_alone(project: Path) -> None:
    with open_gateway(project, env={}):
        pass
    assert (project / ".mlops").stat().st_mode & 0o077 == 0
