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
from tools.core.journal import Journal, JournalError, read_journal
from tools.core.redact import Redactor

NO_SECRETS = Redactor({})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "r" / "journal.jsonl"


def test_a_record_is_one_json_line_with_version_sequence_time_and_kind(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("run_started", goal="g\nwith a newline")
    journal.append("run_finished", outcome="promoted")
    lines = path.read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [0, 1]
    first = json.loads(lines[0])
    assert first["v"] == 1 and first["kind"] == "run_started" and first["goal"] == "g\nwith a newline"
    assert first["ts"].endswith("+00:00")
    assert journal.records() == [json.loads(line) for line in lines]


def test_the_file_is_readable_by_its_owner_only(path: Path) -> None:
    Journal(path, NO_SECRETS).append("x")
    assert path.stat().st_mode & 0o077 == 0


def test_a_record_is_synced_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path, NO_SECRETS)
    on_disk: list[str] = []

    def sync(_file: int) -> None:
        on_disk.append(path.read_text())

    monkeypatch.setattr(journal_module, "_sync", sync)
    journal.append("intent", call_id="c1")
    assert len(on_disk) == 1 and '"call_id":"c1"' in on_disk[0]


def test_a_file_cut_by_a_crash_is_read_up_to_the_cut_and_continued_there(path: Path) -> None:
    journal = Journal(path, NO_SECRETS)
    for number in range(3):
        journal.append("x", number=number)
    journal.close()
    path.write_bytes(path.read_bytes()[:-7])
    assert [record["number"] for record in read_journal(path)] == [0, 1]
    continued = Journal(path, NO_SECRETS)
    assert continued.append("y")["seq"] == 2
    assert [record["kind"] for record in read_journal(path)] == ["x", "x", "y"]


@pytest.mark.parametrize("keep", range(0, 120, 7))
def test_wherever_the_cut_is_the_rest_stays_readable(path: Path, keep: int) -> None:
    journal = Journal(path, NO_SECRETS)
    journal.append("a")
    journal.append("b")
    path.write_bytes(path.read_bytes()[:keep])
    before = list(read_journal(path))
    Journal(path, NO_SECRETS).append("c")
    after = list(read_journal(path))
    assert after[:-1] == before and after[-1]["kind"] == "c"
    assert [record["seq"] for record in after] == list(range(len(after)))


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
