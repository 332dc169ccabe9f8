"""What a run waits for, and when that is over."""

import os
from pathlib import Path

from tools.core.waiting import Suspended, Wait, newest_ns


def never(_: str) -> bool:
    return False


def test_a_wait_for_a_file_is_over_once_it_is_newer_than_when_the_wait_began(tmp_path: Path) -> None:
    wait = Wait("labels", "labels are to come", path="labels.csv", for_s=60).begun(tmp_path, now=100.0)
    assert (wait.path, wait.seen_ns, wait.until_ts) == (str(tmp_path / "labels.csv"), 0, 160.0)
    assert wait.over(159.0, never) == "" and wait.over(160.0, never) == "the time has come"
    (tmp_path / "labels.csv").write_text("1")
    assert wait.over(101.0, never) == "labels.csv is newer"
    again = Wait("labels", "more", path="labels.csv").begun(tmp_path, now=100.0)
    assert again.over(1e12, never) == ""
    os.utime(tmp_path / "labels.csv", ns=(again.seen_ns + 1, again.seen_ns + 1))
    assert again.over(0.0, never) == "labels.csv is newer"


def test_a_folder_is_as_new_as_its_newest_file(tmp_path: Path) -> None:
    assert newest_ns(tmp_path / "none") == 0 == newest_ns(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "part.parquet").write_text("1")
    os.utime(tmp_path / "deep" / "part.parquet", ns=(7, 7))
    assert newest_ns(tmp_path) == 7


def test_a_question_is_over_once_it_is_answered() -> None:
    wait = Wait("person", "choose", approval="a1")
    assert wait.over(0.0, never) == "" and wait.over(0.0, lambda name: name == "a1") == "the question is answered"


def test_a_wait_comes_back_from_a_journal_of_a_later_version() -> None:
    wait = Wait("traffic", "requests", until_ts=5.0)
    assert Wait.from_data({**wait.data(), "added_later": 1}) == wait
    assert str(Suspended(wait)) == "requests"
