"""Whether a journal is what was written: every edit, removal, move, insertion, repetition and cut, in plain words.

Reads only. `check` is pure, of a file's bytes and its heads; `audit_journal` reads them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tools.core.chain import (
    KEY_NAME,
    Head,
    HeadPlaces,
    Link,
    genesis,
    key_id,
    link_hash,
    read_head,
    run_label,
    unseal,
)
from tools.core.keys import KeyFileError, signing_key

MAX_PROBLEMS = 100  # told of one journal
NEAR, FAR = "beside the journal", "in the keys' folder"
_TAKEN_OFF = "the records carry no chain, but they were written with one: it was taken off"
_OTHER_KEY = "signed with another key than this user's: who wrote it cannot be told"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `seq` is that of the record, or of the first of several; None: of the whole journal.

    `kind`: `edited`, `removed`, `moved`, `inserted`, `repeated`, `cut`, `added` (after its end), `head`, `unchained`,
    `other_run`, `key`, `link`, `unreadable`.
    """

    seq: int | None
    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Audit:
    """What is known about a journal. `format` is that of its first record, None where there is none; `chained` how many
    of its records are in the chain. `closed`: its writer ended in order (else it goes on, or was killed). `last`: seq
    and hash of the last record, what a continuation follows."""

    records: int
    chained: int
    format: int | None
    closed: bool
    last: tuple[int, str]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        return not self.problems


@dataclass
class _Entry:
    """One line. `seq` is what it says, if it can be read; `member`: it is the one of that number in the chain."""

    record: dict[str, Any] | None
    link: Link | None
    member: bool = False

    @property
    def seq(self) -> int | None:
        found = self.record.get("seq") if self.record else None
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def authentic(self) -> bool:
        return self.link is not None and self.link.authentic

    def __str__(self) -> str:
        record = self.record or {}
        call = ".".join(str(record[name])[:60] for name in ("server", "action") if record.get(name))
        kind = str(record.get("kind", ""))[:40]
        told = " ".join(filter(None, [kind, call, str(record.get("call_id") or "")[:40]]))
        return f" ({told})" if told else ""


@dataclass
class _Found:
    problems: list[Problem] = field(default_factory=list[Problem])

    def add(self, seq: int | None, kind: str, message: str) -> None:
        self.problems.append(Problem(seq, kind, message))


def verify_journal(path: Path, env: Mapping[str, str] | None = None) -> list[Problem]:
    """What is wrong with a journal; empty where it is as it was written. See `audit_journal`."""
    return list(audit_journal(path, env).problems)


def audit_journal(path: Path, env: Mapping[str, str] | None = None) -> Audit:
    """Check a journal against its chain, its heads and the key of this user. May be called while it is written.

    Args:
        env: says where the keys are; the process's environment by default.

    Raises:
        FileNotFoundError: there is neither a journal nor a head of one.
    """
    env = os.environ if env is None else env
    linked = next((place for place in (path, path.parent) if place.is_symlink()), None)
    if linked is not None:
        problem = Problem(None, "link", f"{linked.name} is a symbolic link; a journal is not read through one")
        return Audit(0, 0, None, False, (-1, ""), (problem,))
    faults: list[Problem] = []
    try:
        key = signing_key(KEY_NAME, env, make=False)
    except KeyFileError as error:
        key, faults = b"", [Problem(None, "key", f"it cannot be verified: {error.message}")]
    places = HeadPlaces.of(path, env)
    # The heads first: while a run goes on, the journal that is read after them is never behind.
    heads, wrong = _heads(places, key)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        if not heads and not wrong:
            raise
        content = b""
    found = check(content, heads, key, run_label(path), named_alike=bool(places.named_alike()))
    if faults:
        return replace(found, problems=tuple(faults) if found.chained else found.problems)
    notes = found.notes
    if found.chained and FAR not in heads and not wrong:
        notes = (*notes, "no second head is kept on this machine: the folder was copied or moved here")
    return replace(found, problems=(*wrong, *found.problems), notes=notes)


def _heads(places: HeadPlaces, key: bytes) -> tuple[dict[str, Head], list[Problem]]:
    heads: dict[str, Head] = {}
    problems: list[Problem] = []
    for place, where in ((places.near, NEAR), (places.far, FAR)):
        try:
            head = read_head(place, key)
        except FileNotFoundError:
            continue
        if head is None:
            problems.append(Problem(None, "head", f"the head {where} was changed: its signature does not fit"))
        else:
            heads[where] = head
    return heads, problems


def check(content: bytes, heads: Mapping[str, Head], key: bytes, run: str, *, named_alike: bool = False) -> Audit:
    """Check a journal's bytes.

    Args:
        content: the file; an incomplete last line is set aside.
        heads: those that could be read, by where they are kept; signed with `key`, or naming another key.
        run: the name of the journal's folder.
        named_alike: a head of a journal of this run's name is kept on this machine.
    """
    whole = content[: content.rfind(b"\n") + 1]
    lines = [line + b"\n" for line in whole.split(b"\n")[:-1]]
    entries = [_Entry(_record(line), unseal(line, key)) for line in lines]
    old = _old_prefix(entries)
    start = genesis(b"".join(lines[:old]))
    found = _Found()
    _check_old(entries[:old], found)
    if entries and old == len(entries) and any((head.seq, head.hash) != (old - 1, start) for head in heads.values()):
        found.add(None, "unchained", _TAKEN_OFF)
        heads = {}
    elif old and old == len(entries) and not heads and named_alike:
        found.add(None, "unchained", _TAKEN_OFF)
    ours = {where: head for where, head in heads.items() if head.key == key_id(key)}
    end = max((head.seq for head in ours.values() if head.run == run), default=-1)
    last = _follow(entries[old:], old, start, end, found)
    for where, head in ours.items():
        _check_head(where, head, entries[old:], last, len(content), run, found)
    if entries[old:] and NEAR not in heads and not found.problems:
        found.add(None, "head", f"the head {NEAR} is missing: whether records were cut off cannot be told")
    signed = any(entry.authentic for entry in entries[old:])
    if len(ours) < len(heads) or (entries[old:] and not signed and _chain_holds(entries[old:], start)):
        found.problems = [Problem(None, "key", _OTHER_KEY)]
    first = entries[0].record if entries else None
    form = first.get("v") if first else None
    cut = len(content) > len(whole)
    return Audit(
        records=len(entries),
        chained=len(entries) - old,
        format=form if isinstance(form, int) else None,
        closed=all(head.closed for head in heads.values()),
        last=last,
        problems=tuple(dict.fromkeys(found.problems))[:MAX_PROBLEMS],
        notes=("the last record is incomplete, as a crash leaves it; it does not count",) if cut else (),
    )


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _old_prefix(entries: list[_Entry]) -> int:
    """How many records of format 1 a journal begins with."""
    count = 0
    for entry in entries:
        if entry.link is not None or entry.record is None or entry.record.get("v") != 1:
            break
        count += 1
    return count


def _check_old(entries: list[_Entry], found: _Found) -> None:
    """Records without a chain: only their numbers can be checked."""
    for place, entry in enumerate(entries):
        if entry.seq != place:
            found.add(place, "removed", f"where record {place} should be is one numbered {entry.seq}{entry}")
            return


def _chain_holds(entries: list[_Entry], start: str) -> bool:
    previous = start
    for entry in entries:
        if entry.link is None or link_hash(previous, entry.link.body) != entry.link.hash:
            return False
        previous = entry.link.hash
    return True


def _follow(entries: list[_Entry], first: int, start: str, end: int, found: _Found) -> tuple[int, str]:
    """Find the one record of each number, then tell what else is there, and what is not.

    Args:
        first, start: number of the first chained record, and the hash that it follows.
        end: the last number that a head states.

    Returns:
        Number and hash of the last record.
    """
    if first and entries and entries[0].authentic and entries[0].seq == first and not _follows(entries[0], start):
        found.add(
            0, "edited", f"{_numbers(0, first - 1)} not as when the chain was begun: written before it, and changed"
        )
        members = _members(entries, first, None)
    else:
        members = _members(entries, first, start)
    last = max(members, default=first - 1)
    end = max(end, last)
    edited: set[int] = set()
    highest = first - 1
    for entry in entries:
        seq, expected = entry.seq, highest + 1
        if entry.member and seq is not None:
            if seq < highest:
                found.add(seq, "moved", f"record {seq}{entry} is not in its place: it stands after record {highest}")
            highest = max(highest, seq)
        elif entry.authentic and seq in members and entry.link == members[seq].link:
            found.add(seq, "repeated", f"record {seq}{entry} is there more than once")
        elif entry.authentic:
            found.add(seq, "inserted", f"a record numbered {seq}{entry} belongs to another journal, or another past")
        else:
            free = [
                n for n in (seq, expected) if n is not None and first <= n <= end and n not in (members.keys() | edited)
            ]
            if free:
                edited.add(free[0])
                highest = max(highest, free[0])
                found.add(free[0], "edited", f"record {free[0]}{entry} was changed after it was written")
            else:
                found.add(
                    expected, "inserted", f"a record{entry} was put in before number {expected}: nobody signed it"
                )
    present = members.keys() | edited
    for begin, until in _ranges([seq for seq in range(first, end + 1) if seq not in present]):
        if begin > max(present, default=first - 1):
            found.add(begin, "cut", f"{_numbers(begin, until)} missing at the end: {end + 1} were written")
        else:
            found.add(begin, "removed", f"{_numbers(begin, until)} missing")
    link = members[last].link if last in members else None
    return last, link.hash if link else start


def _members(entries: list[_Entry], first: int, start: str | None) -> dict[int, _Entry]:
    """The records of the chain by number: signed, and each following the one before where that can be told."""
    signed: dict[int, list[_Entry]] = {}
    for entry in entries:
        if entry.authentic and entry.seq is not None:
            signed.setdefault(entry.seq, []).append(entry)
    members: dict[int, _Entry] = {}
    previous = start
    for seq in range(first, max(signed, default=first - 1) + 1):
        member = next((e for e in signed.get(seq, []) if previous is None or _follows(e, previous)), None)
        if member is not None and member.link is not None:
            member.member = True
            members[seq] = member
        # What follows a record that is gone or changed cannot be told; its signature must do.
        previous = member.link.hash if member is not None and member.link is not None else None
    return members


def _follows(entry: _Entry, previous: str) -> bool:
    return entry.link is not None and link_hash(previous, entry.link.body) == entry.link.hash


def _check_head(
    where: str, head: Head, entries: list[_Entry], last: tuple[int, str], size: int, run: str, found: _Found
) -> None:
    """Compare the records with what a head states; that they are fewer has been told already."""
    if head.run != run:
        found.add(None, "other_run", f"the head {where} is that of run {head.run[:80]}")
        return
    stated = {entry.seq: entry.link.hash for entry in entries if entry.member and entry.link is not None}
    stated.setdefault(last[0], last[1])
    if head.seq in stated and stated[head.seq] != head.hash:
        found.add(head.seq, "edited", f"record {head.seq} is not the one that the head {where} was signed for")
    elif head.closed and last[0] > head.seq:
        found.add(head.seq + 1, "added", f"{_numbers(head.seq + 1, last[0])} there, after the end that the head states")
    elif head.closed and size != head.size and not found.problems:
        found.add(None, "added", f"the journal has {size:,} bytes; it was closed with {head.size:,}")


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _numbers(begin: int, end: int) -> str:
    return f"record {begin} is" if begin == end else f"records {begin} to {end} are"
