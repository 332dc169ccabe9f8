"""`mlops-crew policy check`, `explain`, `try`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, edit
from tools.core.policy import Policy, PolicyFile
from tools.session import open_gateway

PRODUCTION = """
rules:
  - {name: production needs a person, when: {environment: production, action: [mlflow.promote_version]}, then: ask}
  - name: no Friday evenings
    when: {effect: risky, weekdays: [fri], hours: "16:00-24:00", timezone: Europe/Berlin}
    then: deny
freeze:
  - {from: 2026-12-20, to: 2027-01-03, reason: holidays}
"""
PROMOTE = ("policy", "explain", "mlflow.promote_version", "version=2", "--role", "deployment", "--task", "release")


@pytest.fixture
def ruled(folder: Path) -> Path:
    """The project with rules in its policy."""
    path = folder / "config" / "policy.yaml"
    path.write_text(path.read_text(encoding="utf-8") + PRODUCTION, encoding="utf-8")
    return path


class TestCheck:
    def test_the_shipped_policy_passes(self, cli: Cli) -> None:
        ended = cli("policy", "check")
        assert ended.code == 0 and "config/policy.yaml: 0 errors, 0 warnings; 14 integrations, 0 rules" in ended.out

    def test_an_error_ends_with_code_2_and_says_what_is_valid(self, cli: Cli, folder: Path) -> None:
        edit(
            folder / "config" / "policy.yaml", 'mlflow: {allow: "*"}', 'mlflow: {allow: "*", forbid: [promote_verson]}'
        )
        ended = cli("policy", "check")
        assert ended.code == 2
        assert "unknown action 'promote_verson', did you mean 'promote_version'?" in " ".join(ended.out.split())

    def test_roles_and_tasks_of_the_project_are_compared(self, cli: Cli, folder: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.yaml"
        other.write_text("rules: [{name: r, when: {role: deploymnt, task: relase}, then: deny}]\n")
        ended = cli("policy", "check", str(other), "--json")
        found = json.loads(ended.out)
        assert ended.code == 2 and found["errors"] == 2
        assert {finding["where"] for finding in found["findings"]} == {"rules: r"}

    def test_a_file_that_is_no_policy_ends_with_code_2(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "x.yaml").write_text("autonomy: full\n")
        ended = cli("policy", "check", str(tmp_path / "x.yaml"))
        assert ended.code == 2 and "autonomy" in ended.err


class TestExplain:
    def test_it_names_the_rule_that_decides_and_those_looked_at(self, cli: Cli, ruled: Path) -> None:
        ended = cli(*PROMOTE, "--environment", "production", "--at", "2026-11-26T12:00")
        assert ended.code == 0
        assert 'ask: the rule "production needs a person" asks a person for mlflow.promote_version' in ended.out
        assert "Thursday 2026-11-26 12:00 UTC, environment production" in ended.out
        assert "freeze 2026-12-20 to 2027-01-03" in ended.out and "role deployment may use" in ended.out

    @pytest.mark.parametrize(
        ("more", "verdict"),
        [
            (("--at", "2026-11-26T12:00"), "allow"),
            (("--at", "2026-11-27T16:00"), "deny"),
            (("--at", "2026-11-27T14:59+00:00"), "allow"),
            (("--at", "2026-12-24T12:00"), "deny"),
            (("--at", "2026-11-26T12:00", "--environment", "production"), "ask"),
            (("--at", "2026-12-24T12:00", "--environment", "production"), "deny"),
        ],
    )
    def test_time_and_environment_count(self, cli: Cli, ruled: Path, more: tuple[str, ...], verdict: str) -> None:
        assert json.loads(cli(*PROMOTE, *more, "--json").out)["verdict"] == verdict

    def test_the_setting_names_the_environment(self, cli: Cli, ruled: Path, folder: Path) -> None:
        (folder / ".env").write_text("MLOPS_ENVIRONMENT=production\n")
        assert json.loads(cli(*PROMOTE, "--at", "2026-11-26T12:00", "--json").out)["verdict"] == "ask"

    def test_a_stop_that_is_on_is_told(self, cli: Cli, folder: Path) -> None:
        cli("stop", "--reason", "odd labels")
        ended = cli("policy", "explain", "serving.deploy_model")
        assert "Whatever the policy says: stopped by" in ended.out and "odd labels" in ended.out

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("mlfow.promote_version",), "unknown integration 'mlfow'"),
            (("mlflow.promote",), "mlflow has no action 'promote'"),
            (("mlflow.promote_version", "verson=2"), "unknown argument 'verson'"),
            (("mlflow.promote_version", "version"), "write NAME=VALUE"),
            (("mlflow.promote_version", "--role", "boss"), "unknown role 'boss'"),
            (("mlflow.promote_version", "--task", "relase"), "unknown task 'relase'"),
            (("mlflow.promote_version", "--at", "tomorrow"), "is no time"),
            (("mlflow.promote_version", "--environment", "prod"), "MLOPS_ENVIRONMENT is 'prod'"),
        ],
    )
    def test_what_is_not_there_is_an_error(self, cli: Cli, arguments: tuple[str, ...], told: str) -> None:
        ended = cli("policy", "explain", *arguments)
        assert ended.code == 2 and told in " ".join(ended.err.replace("!!", "").split())


class TestTry:
    @pytest.fixture
    def runs(self, folder: Path) -> list[str]:
        """Two runs of single calls: reads, and a write that an observer may not make."""
        policy = Policy(PolicyFile.model_validate({"integrations": {"dvc": {"allow": "*"}, "ab_test": {"allow": "*"}}}))
        names = ["20261127-100000-aaaa", "20261127-110000-bbbb"]
        for name in names:
            gateway = open_gateway(folder, run_id=name, policy=policy, env={})
            try:
                gateway.call("dvc", {"action": "list_versions"})
                gateway.call("mlflow", {"action": "get_champion", "name": "x"})
            finally:
                gateway.close()
                gateway.journal.close()
        return names

    def test_it_says_which_recorded_decisions_would_change(self, cli: Cli, runs: list[str], tmp_path: Path) -> None:
        new = tmp_path / "new.yaml"
        new.write_text('integrations: {mlflow: {allow: "*"}}\n')
        ended = cli("policy", "try", str(new), "--on", "all")
        assert ended.code == 0
        assert "2 runs: 4 decisions, 4 would change (2 allow -> deny, 2 deny -> allow)" in ended.out
        one = cli("policy", "try", str(new), "--on", runs[0], "--json")
        found = json.loads(one.out)
        assert [(c["call"], c["before"], c["after"]) for c in found["changes"]] == [
            ("dvc.list_versions", "allow", "deny"),
            ("mlflow.get_champion", "deny", "allow"),
        ]
        assert found["runs"] == [runs[0]] and found["changes"][0]["rule_after"].startswith("the policy has no block")

    def test_runs_are_picked_by_id_and_from_the_newest(self, cli: Cli, runs: list[str]) -> None:
        picked = json.loads(cli("policy", "try", "config/policy.yaml", "--on", "last:1", "--json").out)
        assert picked["runs"] == [runs[1]]
        ended = cli("policy", "try", "config/policy.yaml", "--on", "nope")
        assert ended.code == 1 and runs[1] in ended.err
