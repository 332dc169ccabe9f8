"""The journal: on disk before `append` returns, readable after a crash, silent about secrets."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tools.core import journal as journal_module
from tools.core.chain import HeadPlaces, HeadWriter
from tools.core.journal import Journal, JournalError, read_journal, verify_journal
from tools.core.keys import signing_key
from tools.core.redact import Redactor

NO_SECRETS = Redactor({})
OLD = Path(__file__).parent / "format_1" / "20261123-142501-3f2a" / "journal.jsonl"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "r" / "journal.jsonl"


def test_a_record_is_one_json_line_with_version_sequence_time_and_kind(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("run_started", goal="g\nwith a newline")
    journal.append("run_finished", outcome="promoted")
    journal.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [0, 1]
    first = json.loads(lines[0])
    assert first["v"] == 2 and first["kind"] == "run_started" and first["goal"] == "g\nwith a newline"
    assert first["ts"].endswith("+00:00")
    assert journal.records() == [json.loads(line) for line in lines]


def test_the_file_is_readable_by_its_owner_only(path: Path) -> None:
    path.parent.mkdir(parents=True, mode=0o755)
    path.touch(mode=0o644)
    Journal(path, NO_SECRETS).append("x")
    for place in (path, path.parent, path.with_name("journal.head")):
        assert place.stat().st_mode & 0o077 == 0


def test_a_record_is_synced_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, NO_SECRETS)
    on_disk: list[str] = []

    def sync(_file: int) -> None:
        on_disk.append(path.read_text())

    monkeypatch.setattr(journal_module, "_sync", sync)
    journal.append("intent", call_id="c1")
    assert len(on_disk) == 1 and '"call_id":"c1"' in on_disk[0]


def crash(journal: Journal) -> None:
    """Let go of the files as a killed process does: nothing more is written."""
    journal._finalizer.detach()
    os.close(journal._tail.file)
    journal._tail.heads.close()


def test_a_file_cut_by_a_crash_is_read_up_to_the_cut_and_continued_there(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    for number in range(2):
        journal.append("x", number=number)
    crash(journal)
    with path.open("ab") as file:
        file.write(b'{"v":2,"seq":2,"ts":"2026')
    assert [record["number"] for record in read_journal(path)] == [0, 1]
    assert verify_journal(path) == [], "what a crash leaves is no tampering"
    with Journal(path, NO_SECRETS) as continued:
        assert continued.append("y")["seq"] == 2
    assert [record["kind"] for record in read_journal(path)] == ["x", "x", "y"]
    assert verify_journal(path) == []


@pytest.mark.parametrize("written", [*range(0, 300, 37), 299])
def test_wherever_a_record_under_way_is_cut_the_rest_stays_readable(path: Path, written: int) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("a")
    before = list(read_journal(path))
    journal.append("b", text="x" * 300)
    whole = path.read_bytes()
    crash(journal)
    # As if the process had died inside the second `append`: its head is the one after the first.
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + written])
    heads = HeadWriter(HeadPlaces.of(path, os.environ), path.parent.name, signing_key("journal", os.environ))
    heads.write(0, before[0]["hash"], first)
    heads.close()
    assert verify_journal(path) == []
    with Journal(path, NO_SECRETS) as continued:
        continued.append("c")
    after = list(read_journal(path))
    assert after[:-1] == before and after[-1]["kind"] == "c"
    assert [record["seq"] for record in after] == list(range(len(after)))
    assert verify_journal(path) == []


def test_a_record_that_is_on_disk_before_its_head_is_no_tampering(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("a")
    monkeypatch.setattr(journal._tail.heads, "write", lambda *_, **__: None)
    for _ in range(3):
        journal.append("b")
    crash(journal)
    assert verify_journal(path) == []
    with Journal(path, NO_SECRETS) as continued:
        continued.append("c")
    assert verify_journal(path) == [] and len(list(read_journal(path))) == 5


def test_what_was_changed_after_it_was_written_is_not_continued(path: Path) -> None:
    with Journal(path, NO_SECRETS) as journal:
        journal.append("approval_decided", state="rejected")
        journal.append("run_finished")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"rejected", b"approved"))
    with pytest.raises(JournalError, match=r"record 0 .* was changed"):
        Journal(path, NO_SECRETS)
    path.write_bytes(content[: content.index(b"\n") + 1])
    with pytest.raises(JournalError, match="record 1 is missing at the end"):
        Journal(path, NO_SECRETS)
    assert path.read_bytes() == content[: content.index(b"\n") + 1], "a refused journal is not touched"


def test_a_journal_that_is_open_cannot_be_opened_for_writing_again(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("a")
    os.write(journal._tail.file, b'{"half": ')
    with pytest.raises(JournalError, match="another process"):
        Journal(path, NO_SECRETS)
    assert path.read_bytes().endswith(b'{"half": '), "what the other writes was damaged"
    code = (
        "import sys; from pathlib import Path; from tools.core.journal import Journal; "
        "from tools.core.redact import Redactor; Journal(Path(sys.argv[1]), Redactor({}))"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "another process" in ended.stderr


def test_a_killed_writer_leaves_no_lock_and_a_journal_that_verifies(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tools.core.journal import Journal; "
        "from tools.core.redact import Redactor; journal = Journal(Path(sys.argv[1]), Redactor({})); "
        "[journal.append('x', number=n) for n in range(20)]; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert verify_journal(path) == []
    content = path.read_bytes()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:-4]))
    assert [problem.kind for problem in verify_journal(path)] == ["cut"], "also without a clean end"
    path.write_bytes(content)
    with Journal(path, NO_SECRETS) as continued:
        assert continued.append("y")["seq"] == 20


def test_a_link_in_place_of_the_journal_its_folder_or_its_head_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    for number, make in enumerate((os.symlink, os.link)):
        for name in ("journal.jsonl", "journal.head"):
            folder = tmp_path / f"run{number}{name}"
            folder.mkdir()
            make(victim, folder / name)
            with pytest.raises(JournalError):
                Journal(folder / "journal.jsonl", NO_SECRETS)
            (folder / name).unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError):
        Journal(tmp_path / "linked" / "journal.jsonl", NO_SECRETS)
    os.mkfifo(tmp_path / "run0journal.jsonl" / "journal.jsonl")
    with pytest.raises(JournalError):
        Journal(tmp_path / "run0journal.jsonl" / "journal.jsonl", NO_SECRETS)
    assert victim.read_text() == "precious\n" and list((tmp_path / "elsewhere").iterdir()) == []


def test_the_key_is_never_beside_what_it_signs(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="inside"):
        Journal(tmp_path / "r" / "journal.jsonl", NO_SECRETS, env={"MLOPS_KEYS": str(tmp_path / "r" / "keys")})
    with pytest.raises(JournalError, match="inside"):
        Journal(
            tmp_path / "r" / "journal.jsonl", NO_SECRETS, env={"MLOPS_KEYS": str(tmp_path / "k")}, apart_from=[tmp_path]
        )


def test_a_journal_of_format_1_is_read_and_may_be_continued(tmp_path: Path) -> None:
    old = OLD.read_bytes()
    records = list(read_journal(OLD))
    assert [record["v"] for record in records] == [1] * 16 and records[-1]["outcome"] == "promoted"
    assert verify_journal(OLD) == []
    path = tmp_path / "20261123-142501-0001" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(old)
    with Journal(path, NO_SECRETS) as continued:
        assert continued.append("run_resumed_example")["seq"] == 16
    assert verify_journal(path) == [] and path.read_bytes().startswith(old)
    path.write_bytes(path.read_bytes().replace(b"numbers look right", b"numbers look wrong"))
    assert [(problem.seq, problem.kind) for problem in verify_journal(path)] == [(0, "edited")]


def test_a_format_that_is_newer_than_the_program_is_said_so(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"v":3,"seq":0}\n')
    with pytest.raises(JournalError, match="newer"):
        list(read_journal(path))


def test_a_field_cannot_pose_as_one_of_the_journals_own(path: Path) -> None:
    for name in ("seq", "hash", "mac", "ts", "v"):
        with pytest.raises(ValueError, match=name):
            Journal(path, NO_SECRETS).append("x", **{name: 0})


def test_a_line_that_is_no_record_is_an_error_that_names_it(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("a")
    with path.open("ab") as file:
        file.write(b"garbage\n")
    with pytest.raises(JournalError, match="line 2"):
        journal.records()


def test_a_full_disk_is_an_error_and_loses_nothing_already_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("kept")
    real_write = os.write

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) > 20:
            return real_write(file, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(JournalError, match="No space left on device"):
        journal.append("lost", text="x" * 100)
    monkeypatch.undo()
    assert [record["kind"] for record in read_journal(path)] == ["kept"]
    assert path.read_bytes().endswith(b"\n"), "half a record was left behind"


def test_after_a_failed_write_nothing_more_is_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, NO_SECRETS)

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(JournalError):
        journal.append("lost")
    monkeypatch.undo()
    with pytest.raises(JournalError, match="No space left on device"):
        journal.append("later")
    assert journal.failure is not None and path.read_bytes() == b""


def test_a_write_the_system_refuses_half_way_leaves_whole_records_only(path: Path) -> None:
    limited = """
import resource, sys
from pathlib import Path
from tools.core.journal import Journal, JournalError
from tools.core.redact import Redactor
journal = Journal(Path(sys.argv[1]), Redactor({}))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for _ in range(100):
        journal.append("x", text="y" * 100)
except JournalError as error:
    sys.exit(str(error))
"""
    ended = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "cannot write the journal" in ended.stderr
    records = list(read_journal(path))
    assert 1 < len(records) < 10 and path.read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_made_is_a_journal_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    with pytest.raises(JournalError, match="cannot write the journal"):
        Journal(tmp_path / "runs" / "r" / "journal.jsonl", NO_SECRETS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_a_journal_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(JournalError, match="Permission denied"):
        Journal(tmp_path / "runs" / "journal.jsonl", NO_SECRETS)


def test_a_refused_open_is_a_journal_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(JournalError, match="Permission denied"):
        Journal(path, NO_SECRETS)


def test_a_closed_journal_refuses_records(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.close()
    with pytest.raises(JournalError):
        journal.append("x")


def test_secrets_reach_neither_the_file_nor_a_listener(path: Path) -> None:
    journal = Journal(path, Redactor({"DB_PASSWORD": "hunter2-hunter2"}))
    heard: list[Any] = []
    journal.subscribe(heard.append)
    journal.append("x", text="login hunter2-hunter2", nested=[{"hunter2-hunter2": Path("/a/hunter2-hunter2")}])
    assert "hunter2" not in path.read_text() and "hunter2" not in str(heard)
    assert "[redacted:DB_PASSWORD]" in path.read_text()


def test_numbers_json_does_not_have_are_written_as_null(path: Path) -> None:
    Journal(path, NO_SECRETS).append("x", value=float("nan"), other=[float("inf")])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record["value"] is None and record["other"] == [None]


def test_a_listener_that_fails_neither_stops_the_journal_nor_the_other_listeners(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    heard: list[str] = []

    def broken(_record: Any) -> None:
        raise BrokenPipeError

    journal.subscribe(broken)
    journal.subscribe(lambda record: heard.append(record["kind"]))
    journal.append("a")
    journal.append("b")
    assert heard == ["a", "b"] and len(journal.records()) == 2


def test_a_listener_hears_nothing_after_it_unsubscribed(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    heard: list[Any] = []
    stop = journal.subscribe(heard.append)
    stop()
    stop()
    journal.append("a")
    assert heard == []


def test_threads_write_whole_lines_without_gaps_in_the_sequence(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    threads = [
        threading.Thread(target=lambda: [journal.append("x", text="y" * 500) for _ in range(10)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [record["seq"] for record in journal.records()] == list(range(80))
