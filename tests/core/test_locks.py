"""Locks of production: one process at a time, visible, taken over from the dead only."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.core.test_settle import ROLE, open_shop
from tools.core.locks import EVERYTHING, LockedError, ProductionLocks, give_up, list_locks


def holding(home: Path, then: str = "sys.stdin.read()") -> "subprocess.Popen[str]":
    """A process that holds the lock of `churn`, until its input ends."""
    code = f"""
        import sys
        from pathlib import Path
        from tools.core.locks import ProductionLocks
        locks = ProductionLocks(Path({str(home)!r}), "other")
        locks.acquire("churn")
        print("held", flush=True)
        {then}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_at_once_and_told_who_holds_it(tmp_path: Path) -> None:
    process = holding(tmp_path)
    with process:
        with pytest.raises(
            LockedError, match=rf"churn is locked, another run changes it: run other \(process {process.pid}"
        ):
            ProductionLocks(tmp_path, "mine").acquire("churn")
        (listed,) = list_locks(tmp_path)
        assert listed.held and (listed.holder.run_id, listed.holder.pid) == ("other", process.pid)
        ProductionLocks(tmp_path, "mine").acquire("another model")
        with pytest.raises(LockedError):
            give_up(tmp_path, "churn")
        process.communicate("")


def test_whoever_waits_gets_it_when_the_other_ends(tmp_path: Path) -> None:
    process = holding(tmp_path, then="import time; time.sleep(0.3)")
    with process:
        ProductionLocks(tmp_path, "mine").acquire("churn", wait_s=60)
    assert [item.holder.run_id for item in list_locks(tmp_path)] == ["mine"]


def test_a_killed_process_loses_it_and_the_next_one_is_told(tmp_path: Path) -> None:
    process = holding(tmp_path)
    with process:
        process.kill()
        process.wait()
        (left,) = list_locks(tmp_path)
        assert not left.held and left.holder.run_id == "other"
        locks = ProductionLocks(tmp_path, "mine")
        before = locks.acquire("churn")
    assert before is not None and before.run_id == "other"
    locks.release()
    assert list(list_locks(tmp_path)) == [], "let go of properly, nothing is left"
    assert ProductionLocks(tmp_path, "next").acquire("churn") is None


def test_a_suspended_run_keeps_others_out_without_a_process(tmp_path: Path) -> None:
    locks = ProductionLocks(tmp_path, "waits")
    locks.acquire("churn")
    locks.release(reserve=True)
    (listed,) = list_locks(tmp_path)
    assert not listed.held and listed.holder.suspended
    with pytest.raises(LockedError, match="mlops-crew resume waits"):
        ProductionLocks(tmp_path, "mine").acquire("churn")
    again = ProductionLocks(tmp_path, "waits")
    assert again.acquire("churn") is None, "it is its own"
    again.release(reserve=True)
    given = give_up(tmp_path, "churn")
    assert given is not None and given.run_id == "waits" and give_up(tmp_path, "churn") is None
    ProductionLocks(tmp_path, "mine").acquire("churn")


def test_a_change_that_names_no_model_excludes_every_other_one(tmp_path: Path) -> None:
    one, other = ProductionLocks(tmp_path, "one"), ProductionLocks(tmp_path, "other")
    one.acquire("churn")
    with pytest.raises(LockedError, match="run one"):
        other.acquire(EVERYTHING)
    assert one.covers("churn") and one.covers(None) and not one.covers("fraud") and not other.covers(None)
    one.release()
    other.acquire(EVERYTHING)
    with pytest.raises(LockedError):
        one.acquire("churn")
    other.release()
    assert one.acquire("churn") is None


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("mine")
    (tmp_path / "locks").mkdir()
    os.symlink(target, tmp_path / "locks" / "local--churn.lock")
    with pytest.raises(LockedError, match="symbolic"):
        ProductionLocks(tmp_path, "run").acquire("churn")
    assert target.read_text() == "mine"


def test_a_risky_call_outside_a_run_takes_the_lock_for_as_long_as_what_it_did_lasts(tmp_path: Path) -> None:
    with open_shop(tmp_path, run_id="one") as one, open_shop(tmp_path, run_id="other") as other:
        assert one.call("shop", {"action": "ship", "item": "a"}, ROLE).ok
        assert list(list_locks(tmp_path)) == [], "what is on disk lasts without the process"
        assert one.call("shop", {"action": "light"}, ROLE).ok
        refused = other.call("shop", {"action": "ship", "item": "b"}, ROLE)
        assert refused.error is not None and "another run changes it: run one" in refused.message
        assert (
            other.call("shop", {"action": "stock"}, ROLE).ok and other.call("shop", {"action": "note", "item": "n"}).ok
        )
        kinds = [record["kind"] for record in other.journal.records()]
        assert kinds[:2] == ["intent", "outcome"], "it never began"
        assert one.call("shop", {"action": "dark"}, ROLE).ok
        assert other.call("shop", {"action": "ship", "item": "b"}, ROLE).ok
        assert one.call("shop", {"action": "light"}, ROLE).ok
        one.close()
        assert other.call("shop", {"action": "ship", "item": "c"}, ROLE).ok
