"""`mlops-crew audit` and `who-was-live`: what a person reads and the exit code that a script sees."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tools.core.journal import Journal
from tools.core.redact import Redactor

RUN, OLD_RUN = "20261129-120000-abcd", "20261123-142501-3f2a"
OLD = Path(__file__).parents[1] / "core" / "format_1" / OLD_RUN


@pytest.fixture
def path(folder: Path) -> Path:
    """The journal of a closed run in the project."""
    path = folder / ".mlops" / "runs" / RUN / "journal.jsonl"
    arguments = {"name": "churn", "version": "3", "model_uri": "models:/churn/3"}
    with Journal(path, Redactor({})) as journal:
        journal.append("run_started", run_id=RUN, goal={"name": "churn"})
        journal.append(
            "intent", call_id="c0001", server="serving", action="deploy_model", arguments=arguments, decision="allow",
            rule="inside the limits",
        )  # fmt: skip
        journal.append("outcome", call_id="c0001", status="ok", data={"name": "churn", "champion_version": "3"})
        journal.append("run_finished", outcome="no_action", summary="Nothing drifted.")
    return path


def test_intact_journals_are_called_so(cli: Cli, path: Path) -> None:
    for arguments in ((), ("all",), (RUN,), ("latest",)):
        ended = cli("audit", "verify", *arguments)
        assert ended.code == 0 and "intact" in ended.out and "4 records" in ended.out


def test_a_changed_journal_is_named_with_the_record_and_exit_code_1(cli: Cli, path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"version":"3"', b'"version":"4"'))
    for arguments in ((), (RUN,)):
        ended = cli("audit", "verify", *arguments)
        assert ended.code == 1
        assert "CHANGED" in ended.out and "record 1 (intent serving.deploy_model c0001) was changed" in ended.out
    told = json.loads(cli("audit", "verify", "--json").out)
    assert told["intact"] is False and told["runs"][0]["problems"][0]["kind"] == "edited"


def test_a_run_whose_journal_was_cut_off_or_taken_away_is_named(cli: Cli, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:2]))
    assert "records 2 to 3 are missing at the end" in cli("audit", "verify", RUN).out
    path.unlink()
    assert cli("audit", "verify", RUN).code == 1
    shutil.rmtree(path.parent)
    ended = cli("audit", "verify")
    assert ended.code == 0 and RUN in ended.out and "gone" in ended.out


def test_a_journal_of_the_old_format_has_no_chain(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_KEYS", str(tmp_path / "no_keys_yet"))
    shutil.copytree(OLD, folder / ".mlops" / "runs" / OLD_RUN)
    ended = cli("audit", "verify", OLD_RUN)
    assert ended.code == 0 and "has no chain" in ended.out and "intact" not in ended.out


@pytest.mark.parametrize("arguments", [(), (OLD_RUN,), ("latest",)])
def test_where_journals_are_signed_one_of_the_old_format_proves_nothing(
    cli: Cli, folder: Path, path: Path, arguments: tuple[str, ...]
) -> None:
    made_up = folder / ".mlops" / "runs" / (OLD_RUN if arguments != ("latest",) else "20991231-000000-ffff")
    shutil.copytree(OLD, made_up)
    ended = cli("audit", "verify", *arguments)
    assert ended.code == 1 and "prove nothing" in ended.out and "--old" in ended.out
    assert cli("audit", "verify", *arguments, "--old").code == 0
    told = cli("audit", "verify", *arguments, "--json")
    assert told.code == 1 and json.loads(told.out)["unproven"] == [made_up.name]
    assert json.loads(told.out)["intact"] is False
    assert cli("audit", "verify", RUN).code == 0 and cli("audit", "show", made_up.name).code == 0


@pytest.mark.parametrize(
    "arguments", [("verify", "nope"), ("verify", "../x"), ("check",), ("show",), (), ("verify", RUN, "more")]
)
def test_wrong_use_is_exit_code_2(cli: Cli, path: Path, arguments: tuple[str, ...]) -> None:
    assert cli("audit", *arguments).code == 2


def test_nothing_to_verify_is_no_failure(cli: Cli) -> None:
    assert cli("audit", "verify").code == 0


def test_the_records_of_a_run_are_listed(cli: Cli, path: Path) -> None:
    out = cli("audit", "show", RUN).out
    assert "run_finished" in out and "serving deploy_model allow" in out
    assert len(json.loads(cli("audit", "show", RUN, "--json").out)) == 4


def test_show_and_report_say_that_a_journal_was_changed(cli: Cli, path: Path) -> None:
    assert json.loads(cli("show", RUN, "--json").out)["run"]["journal_damage"] == ""
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in ([*lines[:1], *lines[2:]], lines[:-1], [lines[0], lines[2], lines[1], lines[3]]):
        path.write_bytes(b"".join(changed))
        assert "no evidence" in json.loads(cli("show", RUN, "--json").out)["run"]["journal_damage"]
        assert "journal is damaged" in " ".join(cli("show", RUN).out.split())


def test_who_was_live_answers_with_version_approver_and_run(cli: Cli, path: Path) -> None:
    for arguments in ((), ("churn",)):
        ended = cli("who-was-live", *arguments)
        assert ended.code == 0 and "version 3, 100 % of requests" in ended.out
        assert "the policy (inside the limits)" in ended.out and RUN in ended.out
    assert json.loads(cli("who-was-live", "--json").out)[0]["champion"]["version"] == "3"
    before = cli("who-was-live", "churn", "--at", "2020-01-01T00:00:00Z")
    assert before.code == 1 and "nobody" in before.out
    assert cli("who-was-live", "--at", "yesterday").code == 2


def test_who_was_live_marks_the_word_of_a_changed_journal(cli: Cli, path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"champion_version":"3"', b'"champion_version":"4"'))
    out = " ".join(cli("who-was-live").out.split())
    assert "version 4" in out and "DOUBTFUL" in out and f"the journal of run {RUN} was changed" in out
