"""Whatever is done to a journal after it was written is found, and told by its number and kind in plain words."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.audit import KINDS, World
from tools.core.audit import audit_journal
from tools.core.chain import HEAD, HeadPlaces, genesis, link_hash
from tools.core.journal import Journal, verify_journal
from tools.core.redact import Redactor

Lines = list[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed journal of ten records."""
    path = tmp_path / "runs" / "20261129-120000-abcd" / "journal.jsonl"
    with Journal(path, Redactor({})) as journal:
        for number in range(10):
            journal.append("outcome", call_id=f"c{number:04d}", status="ok", server="mlflow", action="promote_version")
    return path


def lines_of(path: Path) -> Lines:
    return path.read_bytes().splitlines(keepends=True)


def told(path: Path) -> list[tuple[int | None, str]]:
    return [(problem.seq, problem.kind) for problem in verify_journal(path)]


def edited(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}, separators=(",", ":")).encode() + b"\n"


def test_a_journal_as_it_was_written_has_no_problem(path: Path) -> None:
    audit = audit_journal(path)
    assert audit.intact and audit.closed and audit.format == 2
    assert (audit.records, audit.chained, audit.last[0]) == (10, 10, 9)


CHANGES: dict[str, tuple[Callable[[Lines], Lines], list[tuple[int | None, str]]]] = {
    "edited": (lambda x: [*x[:4], edited(x[4], status="failed"), *x[5:]], [(4, "edited")]),
    "the last edited": (lambda x: [*x[:9], edited(x[9], status="failed")], [(9, "edited")]),
    "two edited": (lambda x: [edited(x[0], a=1), edited(x[1], a=1), *x[2:]], [(0, "edited"), (1, "edited")]),
    "made unreadable": (lambda x: [*x[:4], b"garbage\n", *x[5:]], [(4, "edited")]),
    "its number edited": (lambda x: [*x[:4], edited(x[4], seq=10**18), *x[5:]], [(4, "edited")]),
    "a space added": (lambda x: [*x[:4], x[4].replace(b":", b": ", 1), *x[5:]], [(4, "edited")]),
    "removed": (lambda x: [*x[:3], *x[6:]], [(3, "removed")]),
    "the first removed": (lambda x: x[1:], [(0, "removed")]),
    "swapped": (lambda x: [*x[:3], x[4], x[3], *x[5:]], [(3, "moved")]),
    "moved to the end": (lambda x: [*x[:3], *x[4:], x[3]], [(3, "moved")]),
    "inserted": (lambda x: [*x[:3], b'{"v":2,"seq":3,"kind":"approval_decided"}\n', *x[3:]], [(3, "inserted")]),
    "added at the end": (lambda x: [*x, edited(x[9], seq=10)], [(10, "inserted")]),
    "repeated": (lambda x: [*x[:6], x[2], *x[6:]], [(2, "repeated")]),
    "cut": (lambda x: x[:7], [(7, "cut")]),
    "cut by one": (lambda x: x[:9], [(9, "cut")]),
    "cut to nothing": (lambda x: [], [(0, "cut")]),
    "cut inside a line": (lambda x: [*x[:8], x[8][:30]], [(8, "cut")]),
    "half a line added": (lambda x: [*x, b'{"v":2,'], [(None, "added")]),
    "removed and edited": (lambda x: [*x[:2], *x[3:7], edited(x[7], a=1), *x[8:]], [(7, "edited"), (2, "removed")]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_told_by_number_and_kind(path: Path, change: str) -> None:
    alter, expected = CHANGES[change]
    path.write_bytes(b"".join(alter(lines_of(path))))
    assert told(path) == expected
    for problem in verify_journal(path):
        assert str(problem.seq if problem.seq is not None else "") in problem.message and len(problem.message) < 300


def test_the_message_names_the_call(path: Path) -> None:
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:4], edited(lines[4], status="failed"), *lines[5:]]))
    assert verify_journal(path)[0].message == (
        "record 4 (outcome mlflow.promote_version c0004) was changed after it was written"
    )


def test_hashes_computed_anew_do_not_help_without_the_key(path: Path) -> None:
    records = [json.loads(line) for line in lines_of(path)]
    records[4]["status"] = "failed"
    previous, made = genesis(b""), b""
    for record in records:
        mac = record.pop("mac")
        record.pop("hash")
        body = json.dumps(record, separators=(",", ":")).encode()
        previous = link_hash(previous, body)
        made += body[:-1] + f',"hash":"{previous}","mac":"{mac}"}}\n'.encode()
    path.write_bytes(made)
    assert (4, "edited") in told(path)


def test_a_journal_signed_with_another_key_is_not_taken_for_ours(path: Path, tmp_path: Path) -> None:
    other = {**os.environ, "MLOPS_KEYS": str(tmp_path / "other keys")}
    forged = tmp_path / "forged" / path.parent.name / "journal.jsonl"
    with Journal(forged, Redactor({}), env=other) as journal:
        journal.append("approval_decided", state="approved")
    path.write_bytes(forged.read_bytes())
    path.with_name(HEAD).write_bytes(forged.with_name(HEAD).read_bytes())
    assert [kind for _, kind in told(path)] == ["key"]


def test_without_a_key_nothing_is_called_intact_and_none_is_made(path: Path, tmp_path: Path) -> None:
    env = {**os.environ, "MLOPS_KEYS": str(tmp_path / "none")}
    assert [problem.kind for problem in verify_journal(path, env)] == ["key"]
    assert not (tmp_path / "none").exists()


def test_records_signed_for_another_run_are_not_taken(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "runs" / "20261129-120000-ffff" / "journal.jsonl"
    with Journal(other, Redactor({})) as journal:
        for _ in range(12):
            journal.append("outcome", status="failed")
    lines, foreign = lines_of(path), lines_of(other)
    path.write_bytes(b"".join([*lines, foreign[10]]))
    assert told(path) == [(10, "inserted")]
    path.write_bytes(b"".join([*lines[:5], foreign[5], *lines[6:]]))
    assert (5, "inserted") in told(path)
    path.write_bytes(b"".join(foreign))
    path.with_name(HEAD).write_bytes(other.with_name(HEAD).read_bytes())
    assert any(kind == "other_run" for _, kind in told(path))


def test_a_head_that_was_changed_or_taken_away_is_told(path: Path) -> None:
    head = path.with_name(HEAD)
    content = head.read_bytes()
    head.write_bytes(content.replace(b'"seq":9', b'"seq":6'))
    path.write_bytes(b"".join(lines_of(path)[:7]))
    assert (None, "head") in told(path) and (7, "cut") in told(path)
    head.unlink()
    assert told(path) == [(7, "cut")], "the second head, in the keys' folder, tells"
    path.write_bytes(b"")
    path.unlink()
    assert told(path) == [(0, "cut")], "the whole journal is gone"


def test_an_older_journal_put_back_with_its_own_head_is_told(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r1" / "journal.jsonl"
    with Journal(path, Redactor({})) as journal:
        journal.append("approval_decided", state="rejected")
    older = path.read_bytes(), path.with_name(HEAD).read_bytes()
    with Journal(path, Redactor({})) as journal:
        journal.append("outcome", status="denied")
    path.write_bytes(older[0])
    path.with_name(HEAD).write_bytes(older[1])
    assert told(path) == [(1, "cut")]


def test_a_chain_that_was_taken_off_is_told(path: Path) -> None:
    plain = [{**json.loads(line), "v": 1} for line in lines_of(path)]
    for record in plain:
        del record["hash"], record["mac"]
    path.write_text("".join(json.dumps(record) + "\n" for record in plain))
    assert told(path) == [(None, "unchained")]
    path.with_name(HEAD).unlink()
    assert told(path) == [(None, "unchained")]


def test_a_copied_folder_verifies_and_says_that_its_second_head_is_elsewhere(path: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy" / path.parent.name
    shutil.copytree(path.parent, copy)
    audit = audit_journal(copy / "journal.jsonl")
    assert audit.intact and "copied" in audit.notes[0]
    (copy / "journal.jsonl").write_bytes(b"".join(lines_of(path)[:7]))
    assert told(copy / "journal.jsonl") == [(7, "cut")]
    (copy / HEAD).unlink()
    assert (None, "head") in told(copy / "journal.jsonl")


def test_a_journal_that_is_written_verifies_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r" / "journal.jsonl"
    with Journal(path, Redactor({})) as journal:
        for _ in range(5):
            journal.append("x")
            audit = audit_journal(path)
            assert audit.intact and not audit.closed


def test_a_linked_journal_is_not_read(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    path.rename(other)
    path.symlink_to(other)
    assert told(path) == [(None, "link")]


def test_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify_journal(tmp_path / "r" / "journal.jsonl")


def test_the_second_head_lies_in_the_keys_folder(path: Path) -> None:
    places = HeadPlaces.of(path, os.environ)
    assert places.far.is_relative_to(os.environ["MLOPS_KEYS"]) and places.far.read_bytes() == places.near.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_random_changes_of_every_kind_are_found(kind: str, tmp_path: Path) -> None:
    world, rng = World(tmp_path), random.Random(list(KINDS).index(kind))
    assert [world.tamper(rng, kind) for _ in range(5)] == [True] * 5


def test_untouched_journals_are_never_called_changed(tmp_path: Path) -> None:
    assert World(tmp_path).false_alarms(random.Random(1), 12) == 0
