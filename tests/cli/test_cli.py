"""The command line: what a person sees, and the exit code that a script sees."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from crew.main import run_crew
from tests.cli.conftest import Cli, edit
from tests.helpers.journal_example import RUN_ID, failed_run, promoted_run
from tools.core.approval import Approval, ApprovalError, ApprovalStore
from tools.core.person import person

COMMANDS = [
    "run",
    "sample",
    "runs",
    "show",
    "report",
    "audit",
    "who-was-live",
    "approvals",
    "approve",
    "reject",
    "choose",
    "doctor",
    "tools",
    "serve",
]
HEAVY = {"crewai", "pandas", "numpy", "mcp", "mlflow", "pydantic", "httpx", "sklearn"}


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom crew.cli import main\ncode = main(['--help'])\n"
        f"print('heavy:', sorted({HEAVY!r} & set(sys.modules)))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    assert "heavy: []" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    assert cli(command, "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runn"], "Did you mean 'run'"),
        (["run", "--speed", "2"], "--speed"),
        (["run", "--seed", "many"], "--seed"),
        (["run", "--autonomy", "full"], "autonomous"),
        (["run", "a.yaml", "--goal", "b.yaml"], "give the goal once"),
        (["serve", "--stdio", "--http", "0"], "either --stdio or --http"),
        (["serve", "--integration", "mlfow"], "unknown integration 'mlfow'"),
        (["doctor", "--integration", "mlfow"], "unknown integration 'mlfow'"),
        (["tools", "magician"], "unknown role 'magician'"),
        (["approve"], "ID"),
    ],
)
def test_wrong_use_is_one_error_block_and_exit_code_2(cli: Cli, arguments: list[str], told: str) -> None:
    ended = cli(*arguments)
    assert ended.code == 2
    assert "ERROR" in ended.err
    assert told in _unwrapped(ended.err)
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("goal.yaml", "task: binary", "task: [binary", "not valid YAML"),
        ("goal.yaml", "target:", "targt:", "unknown key 'targt', did you mean 'target'?"),
        ("goal.yaml", "task: binary", "task: binary\ntask: regression", "key 'task' is given twice"),
        ("agents.yaml", "- hyperopt", "- hyperop", "unknown integration 'hyperop', did you mean 'hyperopt'?"),
        ("agents.yaml", "[compare_models]", "[compare_model]", "unknown action 'compare_model', did you mean"),
        ("tasks.yaml", "agent: architect", "agent: architekt", "unknown agent 'architekt', did you mean 'architect'?"),
        ("tasks.yaml", "[assess_champion.act]", "[assess_champion.akt]", "unknown field 'akt', did you mean 'act'?"),
        ("stack.yaml", "servers: {}", "servers: {mlfow: {transport: stdio}}", "unknown server 'mlfow'"),
        ("policy.yaml", "default: deny", "default: allow", "default"),
        ("policy.yaml", "judge: {allow", "juge: {allow", "unknown integration 'juge'"),
    ],
)
def test_wrong_configuration_names_the_file_and_what_is_valid(
    cli: Cli, folder: Path, file: str, old: str, new: str, told: str
) -> None:
    _rows(folder / "sample")
    edit(folder / "config" / file, old, new)
    ended = cli("run")
    text = _unwrapped(ended.err)
    assert ended.code == 2
    assert "ERROR" in text and told in text
    assert file in text
    assert "Traceback" not in text
    assert not (folder / ".mlops" / "runs").exists()


@pytest.mark.parametrize("file", ["goal.yaml", "agents.yaml", "tasks.yaml", "stack.yaml", "policy.yaml"])
def test_a_missing_configuration_file_is_named(cli: Cli, folder: Path, file: str) -> None:
    _rows(folder / "sample")
    (folder / "config" / file).unlink()
    ended = cli("run")
    assert ended.code == 2
    assert f"config/{file}: no such file" in _unwrapped(ended.err)


def test_a_run_before_the_sample_was_written_writes_it_and_says_that_it_is_simulated(cli: Cli, folder: Path) -> None:
    (folder / "config" / "agents.yaml").unlink()  # so that no run follows
    ended = cli("run")
    assert ended.code == 2 and "agents.yaml" in ended.err
    assert "SIMULATED customers" in _unwrapped(ended.err) and "config/goal.yaml" in _unwrapped(ended.err)
    assert {path.name for path in (folder / "sample").iterdir()} == {"reference.csv", "current.csv", "README.txt"}


@pytest.mark.parametrize("there", [(), ("reference.csv",)], ids=["a misspelt name", "one of two is gone"])
def test_what_is_not_the_whole_sample_is_not_made_up(cli: Cli, folder: Path, there: tuple[str, ...]) -> None:
    if not there:
        edit(folder / "config" / "goal.yaml", "current: sample/current.csv", "current: sample/curent.csv")
    for name in there:
        (folder / "sample").mkdir(exist_ok=True)
        (folder / "sample" / name).write_text("churned\nyes\n")
    ended = cli("run")
    assert ended.code == 2
    told = _unwrapped(ended.err)
    assert ("sample/current.csv" if there else "sample/") in told and "mlops-crew sample" in told
    assert sorted(path.name for path in (folder / "sample").glob("*")) == sorted(there)


def test_a_missing_data_file_is_named_with_its_key(cli: Cli, folder: Path) -> None:
    edit(folder / "config" / "goal.yaml", "current: sample/current.csv", "current: data/june.csv")
    _rows(folder / "sample")
    ended = cli("run")
    assert ended.code == 2
    assert "data.current" in _unwrapped(ended.err) and "data/june.csv" in _unwrapped(ended.err)


def test_a_folder_without_a_project_says_so(cli: Cli, tmp_path: Path) -> None:
    ended = cli("runs", "--project", str(tmp_path))
    assert ended.code == 2
    assert "no project here" in _unwrapped(ended.err)


def test_a_state_folder_that_cannot_be_written_ends_the_run_before_anything_is_done(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _rows(folder / "sample")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "file" / "home"))
    ended = cli("run")
    assert ended.code == 1
    assert "cannot write the lock" in _unwrapped(ended.err) and "nothing was done" in _unwrapped(ended.err)


def test_a_bug_is_one_block_and_its_traceback_is_shown_on_request(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the sample is haunted")

    monkeypatch.setattr("crew.sample.write_sample", broken)
    quiet = cli("sample")
    monkeypatch.setenv("MLOPS_DEBUG", "1")
    loud = cli("sample")
    assert (quiet.code, loud.code) == (1, 1)
    assert "RuntimeError: the sample is haunted" in _unwrapped(quiet.err) and "Traceback" not in quiet.err
    assert "Traceback" in loud.err


def test_crewai_run_gets_the_error_and_the_exit_code_of_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    status = folder / "status"
    (folder / "config" / "agents.yaml").unlink()
    monkeypatch.setenv("MLOPS_STATUS_FILE", str(status))
    monkeypatch.setattr(sys, "argv", ["run_crew"])
    with pytest.raises(SystemExit) as ended:
        run_crew()
    assert ended.value.code == 2
    assert "ERROR" in capfd.readouterr().err
    assert status.read_text() == "2"


def test_a_reader_that_closes_the_pipe_gets_no_traceback(folder: Path) -> None:
    # The reader is gone before the first line is written.
    program = "import sys, time\nfrom crew.cli import main\nsys.stdin.readline()\nsys.exit(main(['tools', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_the_end_at_once_waits_for_nothing_and_leaves_no_process(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time\n"
        "from crew.commands.ending import end_at_once\n"
        "ignores = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); '\n"
        "child = subprocess.Popen([sys.executable, '-c', ignores + 'time.sleep(600)'], start_new_session=True,\n"
        "                         stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "end_at_once(130, lambda: time.sleep(600))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert time.monotonic() - began < 20
    child = Path(f"/proc/{int(done.stdout)}/status")
    assert not child.exists() or "State:\tZ" in child.read_text()  # killed; a container's init may not collect it


class TestSample:
    def test_it_says_simulated_and_what_to_do_next(self, cli: Cli, folder: Path) -> None:
        ended = cli("sample")
        assert ended.code == 0
        assert "SIMULATED" in ended.out and "mlops-crew run" in ended.out
        assert {path.name for path in (folder / "sample").iterdir()} == {"reference.csv", "current.csv", "README.txt"}

    def test_it_overwrites_only_when_forced(self, cli: Cli, folder: Path) -> None:
        (folder / "mine").mkdir()
        (folder / "mine" / "current.csv").write_text("precious")
        refused = cli("sample", "mine")
        assert refused.code == 1
        assert "--force" in refused.err
        assert (folder / "mine" / "current.csv").read_text() == "precious"
        assert not (folder / "mine" / "reference.csv").exists()
        assert cli("sample", "mine", "--force", "--no-drift").code == 0
        assert "Nothing drifts" in (folder / "mine" / "README.txt").read_text()

    def test_a_file_where_the_folder_should_be_is_an_error(self, cli: Cli, folder: Path) -> None:
        (folder / "taken").write_text("")
        ended = cli("sample", "taken/deeper")
        assert ended.code == 1
        assert "taken" in _unwrapped(ended.err) and "Not a directory" in _unwrapped(ended.err)


class TestApprovals:
    def put(self, folder: Path, name: str, expires_in_s: float = 600) -> ApprovalStore:
        store = ApprovalStore(folder / ".mlops" / "approvals")
        now = time.time()
        store.create(
            Approval(
                id=name, run_id="r1", integration="serving", action="promote_canary", arguments={"version": "2"},
                role="deployment", reason="autonomy level supervised", call_hash="h", created_ts=now,
                expires_ts=now + expires_in_s,
            )
        )  # fmt: skip
        return store

    def test_pending_ones_are_listed_with_the_call_and_the_reason(self, cli: Cli, folder: Path) -> None:
        assert "Nothing waits" in cli("approvals").out
        self.put(folder, "r1-c0001")
        listed = cli("approvals").out
        assert "r1-c0001" in listed and "serving.promote_canary" in listed and "supervised" in listed
        assert '"2"' in listed
        assert json.loads(cli("approvals", "--json").out)[0]["arguments"] == {"version": "2"}

    @pytest.mark.parametrize(("command", "state"), [("approve", "approved"), ("reject", "rejected")])
    def test_an_answer_is_recorded_once_with_its_note(self, cli: Cli, folder: Path, command: str, state: str) -> None:
        store = self.put(folder, "r1-c0001")
        assert cli(command, "r1-c0001", "--note", "looked at it").code == 0
        decided = store.get("r1-c0001")
        assert (decided.state, decided.note) == (state, "looked at it")
        assert decided.decided_by
        again = cli("approve", "r1-c0001")
        assert again.code == 1
        assert f"already {state}" in _unwrapped(again.err)

    def test_unknown_and_expired_ones_are_errors(self, cli: Cli, folder: Path) -> None:
        store = self.put(folder, "r1-c0002", expires_in_s=-1)
        unknown, expired = cli("approve", "r1-c0009"), cli("approve", "r1-c0002")
        assert (unknown.code, expired.code) == (1, 1)
        assert "no approval 'r1-c0009'" in _unwrapped(unknown.err)
        assert "expired" in _unwrapped(expired.err)
        with pytest.raises(ApprovalError):
            store.spend("r1-c0002")

    def test_the_person_is_who_the_system_knows_whatever_the_environment_says(
        self, cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = self.put(folder, "r1-c0001")
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.setenv(name, "the.cfo")
        assert cli("approve", "r1-c0001").code == 0
        assert store.get("r1-c0001").decided_by == person() != "the.cfo"

    def test_edits_are_typed_by_the_arguments_of_the_question(self, cli: Cli, folder: Path) -> None:
        store = self.put(folder, "r1-c0001")
        wrong = cli("approve", "r1-c0001", "--set", "versoin=3")
        assert wrong.code == 1 and "NAME one of: version" in _unwrapped(wrong.err)
        store.retire("r1-c0001")  # as the run does when it takes the answer
        assert 'with version="3"' in cli("approve", "r1-c0001", "--set", "version=3").out
        assert store.get("r1-c0001").edited == {"version": "3"}

    def test_a_refused_edit_is_told_and_the_question_stays_open(self, cli: Cli, folder: Path) -> None:
        store = self.put(folder, "r1-c0001")

        def refuse() -> None:
            while (found := store.get("r1-c0001")).state == "pending":
                threading.Event().wait(0.01)
            store.refuse(found, "version is bound to 2")

        thread = threading.Thread(target=refuse)
        thread.start()
        ended = cli("approve", "r1-c0001", "--set", "version=3")
        thread.join()
        assert ended.code == 1 and "version is bound to 2" in _unwrapped(ended.err)
        assert store.get("r1-c0001").state == "pending"

    def test_a_question_that_was_altered_is_named_and_not_answered(self, cli: Cli, folder: Path) -> None:
        store = self.put(folder, "r1-c0001")
        path = store.folder / "r1-c0001.json"
        path.write_text(path.read_text().replace('"version": "2"', '"version": "1"'))
        assert "Not to be trusted: r1-c0001" in cli("approvals").out
        ended = cli("approve", "r1-c0001")
        assert ended.code == 1 and "signature" in _unwrapped(ended.err)

    def test_nothing_of_a_question_reaches_the_terminal_raw(self, cli: Cli, folder: Path) -> None:
        evil = "x\x1b[2J\r\x07\u202e\u2028\x9b31m"
        now = time.time()
        ApprovalStore(folder / ".mlops" / "approvals").create(
            Approval(
                id="r1-c0001", run_id="r1", integration="other", action=evil, arguments={evil: evil}, role=evil,
                reason=evil, call_hash=evil, created_ts=now, expires_ts=now + 60,
            )
        )  # fmt: skip
        for ended in (cli("approvals"), cli("approvals", "r1-c0001"), cli("reject", "r1-c0001", "--note", evil)):
            assert ended.code == 0 and not [c for c in ended.out if c in evil[1:] and not c.isascii()]
            assert "\x1b" not in ended.out and "\r" not in ended.out and "\x07" not in ended.out


class TestChoices:
    OPTIONS = (
        {"name": "quality", "title": "Best", "consequences": "40 ms.", "numbers": {}},
        {"name": "latency", "title": "Fastest", "consequences": "2 points less.", "numbers": {}},
    )

    @pytest.fixture
    def store(self, folder: Path) -> ApprovalStore:
        store, now = ApprovalStore(folder / ".mlops" / "approvals"), time.time()
        arguments = {"question": "Which model?", "options": list(self.OPTIONS), "plot": "front.svg"}
        store.create(
            Approval(
                id="r1-c0001", run_id="r1", integration="people", action="choose", arguments=arguments, asks=True,
                role="evolution", reason="no preference", call_hash="h", created_ts=now, expires_ts=now + 600,
            )
        )  # fmt: skip
        return store

    def test_a_question_is_listed_with_its_options_and_how_to_choose(self, cli: Cli, store: ApprovalStore) -> None:
        listed = " ".join(cli("approvals").out.split())
        for told in ("Which model?", "1 quality Best. 40 ms.", "2 latency Fastest. 2 points less.", "front.svg"):
            assert told in listed, listed
        assert "mlops-crew choose ID OPTION --note WHY" in listed and "mlops-crew approve ID" not in listed

    @pytest.mark.parametrize("option", ["latency", "2"])
    def test_a_choice_is_recorded_once_with_its_reason(self, cli: Cli, store: ApprovalStore, option: str) -> None:
        ended = cli("choose", "r1-c0001", option, "--note", "users wait")
        assert (ended.code, ended.out) == (0, f"Chosen: latency (r1-c0001), by {person()}\n")
        decided = store.get("r1-c0001")
        assert (decided.state, decided.chosen, decided.note) == ("chosen", "latency", "users wait")
        again = cli("choose", "r1-c0001", "quality")
        assert again.code == 1 and "already chosen" in _unwrapped(again.err)

    def test_what_is_not_offered_and_a_plain_approval_are_refused(self, cli: Cli, store: ApprovalStore) -> None:
        wrong, approved = cli("choose", "r1-c0001", "cheapest"), cli("approve", "r1-c0001")
        assert (wrong.code, approved.code) == (1, 1)
        assert "one of quality, latency" in _unwrapped(wrong.err)
        assert "mlops-crew choose r1-c0001 OPTION" in _unwrapped(approved.err)
        assert store.get("r1-c0001").state == "pending"


class TestLookingBack:
    @pytest.fixture
    def played(self, folder: Path) -> Path:
        promoted_run(folder).write()
        failed_run(folder).write()
        return folder

    def test_no_run_yet_says_how_to_start_one(self, cli: Cli) -> None:
        assert "mlops-crew run" in cli("runs").out
        ended = cli("show")
        assert ended.code == 1
        assert "no run yet" in ended.err

    def test_runs_are_listed_newest_first(self, cli: Cli, played: Path) -> None:
        listed = cli("runs").out
        assert listed.index(RUN_ID) < listed.index("20261121-080000-00bb")
        assert "Promoted" in listed and "Failed" in listed
        assert [run["outcome"] for run in json.loads(cli("runs", "--json").out)] == ["promoted", "failed"]
        assert "1 older run" in cli("runs", "--limit", "1").out

    def test_show_tells_tasks_decisions_and_calls_of_the_latest_run(self, cli: Cli, played: Path) -> None:
        shown = cli("show", "latest").out
        assert RUN_ID in shown
        for part in ("Tasks", "Decisions", "Calls", "search_architecture", "serving.promote_canary", "maria"):
            assert part in shown
        assert json.loads(cli("show", RUN_ID, "--json").out)["run"]["exit_code"] == 0

    def test_show_time_tells_seconds_per_task_and_action(self, cli: Cli, played: Path) -> None:
        found = json.loads(cli("show", RUN_ID, "--time", "--json").out)
        facts = json.loads(cli("show", RUN_ID, "--json").out)
        steps = {step["task"]: step for step in found["steps"]}
        assert {task: step["seconds"] for task, step in steps.items() if task != "between tasks"} == {
            task["task"]: task["duration_s"] for task in facts["tasks"] if task["state"] == "done"
        }
        assert sum(step["seconds"] for step in found["steps"]) == pytest.approx(found["duration_s"], abs=0.01)
        assert sum(a["calls"] for step in found["steps"] for a in step["actions"]) == len(facts["calls"])
        search = steps["search_architecture"]
        assert 0 < search["in_calls_s"] <= search["seconds"]
        shown = cli("show", "--time").out
        assert all(part in shown for part in ("search_architecture", search["actions"][0]["action"], "OF THE RUN"))

    def test_an_unknown_run_is_an_error_that_names_the_newest(self, cli: Cli, played: Path) -> None:
        for command in ("show", "report"):
            ended = cli(command, "20200101-000000-dead")
            assert ended.code == 1
            assert RUN_ID in _unwrapped(ended.err)

    def test_the_report_is_written_again_from_the_journal(self, cli: Cli, played: Path) -> None:
        report = played / ".mlops" / "runs" / RUN_ID / "report.html"
        report.unlink(missing_ok=True)
        assert cli("report", "latest").code == 0
        assert RUN_ID in report.read_text()


class TestTools:
    def test_each_role_shows_its_actions_with_effect_verdict_and_tokens(self, cli: Cli) -> None:
        roles = {role["role"]: role for role in json.loads(cli("tools", "--json").out)["roles"]}
        assert set(roles) == {
            "data_guardian", "synthesis", "architect", "optimization", "deployment", "sentinel", "evolution",
        }  # fmt: skip
        actions = {a["action"]: a for item in roles["architect"]["integrations"] for a in item["actions"]}
        assert "register_model" not in actions  # not granted by its YAML
        assert (actions["search"]["effect"], actions["search"]["verdict"]) == ("write", "allow")
        tokens = {task: count for role in roles.values() for task, count in role["tasks"].items()}
        assert len(tokens) == 19 and max(tokens.values()) <= 1500, tokens
        assert "search" in cli("tools", "architect").out

    def test_the_policy_decides_what_is_shown(self, cli: Cli, folder: Path) -> None:
        policy = folder / "config" / "policy.yaml"
        edit(policy, "autonomy: auto", "autonomy: supervised")
        edit(policy, 'mlflow: {allow: "*"}', 'mlflow: {allow: "*", forbid: [retire_version]}')
        (role,) = json.loads(cli("tools", "deployment", "--json").out)["roles"]
        verdicts = {
            f"{item['integration']}.{a['action']}": a["verdict"]
            for item in role["integrations"]
            for a in item["actions"]
        }
        assert verdicts["mlflow.retire_version"] == "deny"
        assert verdicts["serving.promote_canary"] == "ask"
        assert verdicts["mlflow.get_champion"] == "allow"


def _rows(folder: Path) -> None:
    """Data files that exist; no test here reads them."""
    folder.mkdir()
    for name in ("reference.csv", "current.csv"):
        (folder / name).write_text("timestamp,churned\n2025-06-01,yes\n")


def _unwrapped(text: str) -> str:
    """A block of text without its frame and its line breaks."""
    return " ".join(line.strip("! ") for line in text.splitlines() if line.strip("! "))
