"""`mlops-crew doctor`: what is broken is found, with the way to fix it; what is optional is no failure."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from crew.checks import check_integration, project_checks
from crew.commands.doctor import bounded
from tests.cli.conftest import Cli, edit
from tests.helpers.servers import free_port
from tools.core.contract import Integration
from tools.registry import load_spec
from tools.session import open_stack

ROOT = Path(__file__).parents[2]
SECRET = "very-secret-value-1"


def test_a_working_integration_shows_versions_and_is_no_failure(cli: Cli) -> None:
    ended = cli("doctor", "--integration", "judge", "--integration", "prometheus", "--json")
    found = json.loads(ended.out)
    assert ended.code == 0 and found["ok"]
    assert [check["state"] for check in found["integrations"]] == ["ok", "ok"]
    assert found["integrations"][0]["installed"]["scipy"]
    assert "Everything" in cli("doctor", "--integration", "judge").out


def test_a_server_that_does_not_answer_is_broken_and_its_setting_is_named(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = next(s.name for s in load_spec("prometheus").settings if s.real)
    monkeypatch.setenv(setting, f"http://127.0.0.1:{free_port()}")
    ended = cli("doctor", "--integration", "prometheus")
    assert ended.code == 1
    assert "BROKEN" in ended.out and "fix" in ended.out
    assert setting in ended.out


def test_secrets_are_told_only_as_set(folder: Path) -> None:
    spec = load_spec("wandb")
    secret = next(setting.name for setting in spec.settings if setting.secret)
    env = {secret: SECRET, "WANDB_MODE": "offline"}
    found = check_integration("wandb", open_stack(folder, env), folder, folder / ".mlops", env)
    assert found.settings[secret] == "set"
    assert SECRET not in json.dumps(found.__dict__)


@pytest.mark.parametrize(("extra", "state"), [("ray", "off"), (None, "broken")])
def test_a_missing_library_is_fatal_only_for_the_default_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, extra: str | None, state: str
) -> None:
    lacking = Integration(
        name="judge", title="Judge", summary="", actions=(), backend="nowhere:Nothing", requires=("no-such-library",),
        extra=extra,
    )  # fmt: skip
    stack = open_stack(folder, {})
    monkeypatch.setattr(stack, "load_spec", lambda _name: lacking)
    found = check_integration("judge", stack, folder, folder / ".mlops", {})
    assert found.state == state
    assert found.fix == lacking.install_command()


def test_an_account_that_is_not_set_up_is_no_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tools.core.contract import Setting

    wants = Integration(
        name="judge", title="Judge", summary="", actions=(), backend="nowhere:Nothing",
        settings=(Setting("JUDGE_ACCOUNT", "the account", required=True),),
    )  # fmt: skip
    stack = open_stack(folder, {})
    monkeypatch.setattr(stack, "load_spec", lambda _name: wants)
    found = check_integration("judge", stack, folder, folder / ".mlops", {})
    assert found.state == "off"
    assert "JUDGE_ACCOUNT" in found.fix


def test_a_third_party_server_that_does_not_start_is_broken(cli: Cli, folder: Path) -> None:
    edit(folder / "config" / "stack.yaml", "mcpServers: {}", "mcpServers: {github: {command: no-such-program}}")
    ended = cli("doctor", "--integration", "github")
    assert ended.code == 1
    assert "no-such-program" in ended.out and "config/stack.yaml" in ended.out


def test_broken_configuration_is_found_file_by_file(folder: Path) -> None:
    edit(folder / "config" / "policy.yaml", "default: deny", "default: maybe")
    edit(folder / "config" / "tasks.yaml", "agent: architect", "agent: nobody")
    checks = {check.name: check for check in project_checks(folder, folder / ".mlops", {})}
    assert checks["policy.yaml"].state == "broken"
    assert "unknown agent 'nobody'" in checks["agents.yaml, tasks.yaml"].detail
    assert checks["stack.yaml"].state == checks["goal.yaml"].state == checks["python"].state == "ok"
    assert checks["data"].fix == "mlops-crew sample"
    assert checks["model"].state == "off"


def test_a_state_folder_that_cannot_be_written_is_broken(folder: Path) -> None:
    (folder / "file").write_text("")
    checks = {check.name: check for check in project_checks(folder, folder / "file" / "home", {})}
    assert checks["state folder"].state == "broken"
    assert "MLOPS_HOME" in checks["state folder"].fix


def test_a_model_without_key_or_server_is_broken(folder: Path) -> None:
    def model(**env: str) -> tuple[str, str]:
        check = next(c for c in project_checks(folder, folder / ".mlops", env) if c.name == "model")
        return check.state, check.fix

    assert model(MODEL="openai/gpt-5", OPENAI_API_KEY="sk-x")[0] == "ok"
    assert model(MODEL="openai/gpt-5") == ("broken", "set OPENAI_API_KEY (or MODEL_API_KEY) in .env")
    unreachable = model(MODEL="llama", MODEL_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    assert unreachable == ("broken", "start the server, or correct MODEL_BASE_URL")


def test_one_that_hangs_does_not_hold_up_the_others() -> None:
    forever = threading.Event()
    began = time.monotonic()
    answers = bounded({"hangs": forever.wait, "a": lambda: True, "b": lambda: True}, at_once=1, timeout_s=0.3)
    forever.set()
    assert answers == {"a": True, "b": True}
    assert time.monotonic() - began < 5


def test_a_project_check_that_hangs_is_named_with_the_load_and_the_others_go_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crew import checks
    from crew.commands import doctor

    forever = threading.Event()

    def hangs() -> checks.Check:
        forever.wait()
        return checks.Check("isolation", "ok", "")

    monkeypatch.setattr(checks, "_isolation", hangs)
    monkeypatch.setattr(doctor, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(checks.os, "getloadavg", lambda: (9.5, 1.0, 1.0))
    monkeypatch.setattr(checks.os, "cpu_count", lambda: 2)
    found = json.loads(cli("doctor", "--json").out)
    forever.set()
    told = {check["name"]: check for check in found["project"]}
    assert told["isolation"]["state"] == "warn"
    assert told["isolation"]["detail"] == "no answer within 2 s: the machine is busy (load 9.5 on 2 cores)"
    assert told["python"]["state"] == "ok" and "disk" in told and "signing key" in told


def test_an_integration_that_hangs_is_named_with_the_load_and_the_others_go_on(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crew import checks
    from crew.commands import doctor

    forever = threading.Event()

    def checked(name: str, *_: Any) -> checks.IntegrationCheck:
        if name == "prometheus":
            forever.wait()
        return checks.IntegrationCheck(name, "ok", "works")

    monkeypatch.setattr(checks, "check_integration", checked)
    monkeypatch.setattr(doctor, "TIMEOUT_S", 3.0)
    monkeypatch.setattr(checks.os, "getloadavg", lambda: (9.5, 1.0, 1.0))
    monkeypatch.setattr(checks.os, "cpu_count", lambda: 2)
    asked = ("prometheus", "people", "ab_test")
    ended = cli("doctor", *(word for name in asked for word in ("--integration", name)), "--json")
    forever.set()
    told = {check["name"]: check for check in json.loads(ended.out)["integrations"]}
    assert tuple(told) == asked and ended.code == 0, "no account is needed by the default loop"
    assert told["prometheus"]["detail"] == "no answer within 3 s: the machine is busy (load 9.5 on 2 cores)"
    assert told["prometheus"]["state"] == "warn" and "--integration prometheus" in told["prometheus"]["fix"]
    assert [told[name]["detail"] for name in asked[1:]] == ["works", "works"]


def test_what_a_check_raises_is_raised_and_not_taken_for_a_time_out() -> None:
    def fails() -> bool:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        bounded({"fails": fails}, at_once=1, timeout_s=60)


def test_no_more_run_at_once_than_allowed() -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def job() -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1
        return True

    assert len(bounded({str(i): job for i in range(9)}, at_once=3, timeout_s=10)) == 9
    assert most <= 3


def test_a_secret_that_is_an_ordinary_word_is_named_and_never_shown(tmp_path: Path) -> None:
    env = {"DB_PASSWORD": "production", "X_TOKEN": "hunter2-hunter2", "PROMETHEUS_TOKEN": "short"}
    told = {check.name: check for check in project_checks(tmp_path, tmp_path / ".mlops", env)}["secrets"]
    assert told.state == "warn" and "DB_PASSWORD, PROMETHEUS_TOKEN" in told.detail
    assert "production" not in told.detail and "X_TOKEN" not in told.detail


def test_a_signing_key_that_others_may_read_is_broken_and_none_is_made_by_looking(tmp_path: Path) -> None:
    from tools.core.keys import signing_key

    env = {"MLOPS_KEYS": str(tmp_path / "keys")}

    def told() -> tuple[str, str]:
        checks = {check.name: check for check in project_checks(tmp_path / "p", tmp_path / "p" / ".mlops", env)}
        return checks["signing key"].state, checks["signing key"].detail

    assert told()[0] == "ok" and "first run" in told()[1] and not (tmp_path / "keys").exists()
    signing_key("journal", env)
    assert told() == ("ok", f"in {tmp_path / 'keys'}")
    (tmp_path / "keys" / "journal.key").chmod(0o644)
    assert told()[0] == "broken" and "chmod 600" in told()[1]


def test_misspelt_tools_of_somebody_elses_server_are_told_by_doctor_and_tools(cli: Cli, folder: Path) -> None:
    server = f"{{other: {{command: {sys.executable}, args: [-m, tests.core.third_party], cwd: {ROOT}}}}}"
    edit(folder / "config" / "stack.yaml", "mcpServers: {}", f"mcpServers: {server}")
    edit(folder / "config" / "policy.yaml", "  people:", '  other: {allow: "*", effects: {bloks: read}}\n  people:')
    agents = folder / "config" / "agents.yaml"
    edit(agents, "    - dvc\n    - great", "    - other: [blocks, tiped]\n    - dvc\n    - great")
    asked = cli("doctor", "--integration", "other")
    assert asked.code == 0 and "WARN" in asked.out
    told = " ".join(asked.out.split())
    assert "other has no tool 'bloks', did you mean 'blocks'?" in told and "'tiped', did you mean 'typed'?" in told
    before = cli("tools", "data_guardian")
    assert "nobody has accepted a tool of it: mlops-crew tools accept other" in before.out
    assert cli("tools", "accept", "other", "--yes").code == 0
    listed = cli("tools", "data_guardian")
    assert "WARNING: policy.yaml: integrations.other.effects: other has no tool 'bloks'" in listed.out
    assert "blocks" in listed.out.split("other:")[1]
    checks = [check for check in project_checks(folder, folder / ".mlops", {}) if check.name == "tools of other"]
    assert checks and {check.state for check in checks} == {"warn"}
