"""Is a changed journal found, and what does the chain cost? Tamperings of every kind, and milliseconds per record.

    python bench/audit.py [--tamperings N] [--records N]

Each tampering changes a journal that was written by the product, at random, as somebody could who may write the whole
state folder but has not the key. Half of the journals were closed, half left by a killed process. Then the same records
are appended with the chain and without it, in turn. Exits with 1 when a tampering is not found, an untouched journal is
called changed, or the chain costs more than 0.2 ms a record.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.core.chain import HEAD, genesis, link_hash
from tools.core.journal import Journal, verify_journal
from tools.core.redact import Redactor

BOUND_MS = 0.2
Tamper = Callable[[random.Random, list[bytes]], list[bytes]]


def _edit_value(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    place = rng.randrange(len(lines))
    record = json.loads(lines[place])
    name = rng.choice([key for key in record if key not in ("hash", "mac")])
    record[name] = rng.choice(["changed", 7, None, {"a": 1}])
    return [*lines[:place], json.dumps(record, separators=(",", ":")).encode() + b"\n", *lines[place + 1 :]]


def _flip_byte(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    content = bytearray(b"".join(lines))
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return [bytes(content)]


def _remove(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    place = rng.randrange(len(lines) - 1)
    return lines[:place] + lines[min(len(lines) - 1, place + rng.randint(1, 4)) :]


def _swap(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    one, two = rng.sample(range(len(lines)), 2)
    changed = list(lines)
    changed[one], changed[two] = changed[two], changed[one]
    return changed


def _insert(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    place = rng.randrange(len(lines) + 1)
    made = {"v": rng.choice([1, 2]), "seq": place, "ts": "2026-11-23T14:25:01.000+00:00", "kind": "approval_decided",
            "call_id": "c0001", "state": "approved", "by": "alice"}  # fmt: skip
    if rng.random() < 0.5:
        made |= {"hash": f"{rng.getrandbits(256):064x}", "mac": f"{rng.getrandbits(128):032x}"}
    return [*lines[:place], json.dumps(made, separators=(",", ":")).encode() + b"\n", *lines[place:]]


def _repeat(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    place = rng.randrange(len(lines))
    target = rng.randrange(len(lines) + 1)
    return [*lines[:target], lines[place], *lines[target:]]


def _cut(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    return lines[: rng.randrange(len(lines))]


def _cut_inside(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    content = b"".join(lines)
    return [content[: rng.randrange(len(content))]]


def _rechain(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    """Change a record and compute every later hash anew, as anybody can; the signatures stay or are made up."""
    records = [json.loads(line) for line in lines]
    place = rng.randrange(len(records))
    change = rng.choice(["edit", "drop", "add"])
    if change == "edit":
        records[place]["ts"] = "2020-01-01T00:00:00.000+00:00"
    elif change == "drop" and len(records) > 1:
        del records[place]
    else:
        records.insert(place, {**records[place], "kind": "approval_decided"})
    previous, made = genesis(b""), list[bytes]()
    for seq, record in enumerate(records):
        mac = record.pop("mac")
        record.pop("hash")
        record["seq"] = seq
        body = json.dumps(record, separators=(",", ":")).encode()
        previous = link_hash(previous, body)
        mac = mac if rng.random() < 0.5 else hashlib.sha256(body).hexdigest()[:32]
        made.append(body[:-1] + f',"hash":"{previous}","mac":"{mac}"}}\n'.encode())
    return made


def _unchain(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    """Write it as the old format, which has no chain."""
    records = [json.loads(line) for line in lines]
    records[rng.randrange(len(records))]["ts"] = "2020-01-01T00:00:00.000+00:00"
    plain = [{**{k: v for k, v in record.items() if k not in ("hash", "mac")}, "v": 1} for record in records]
    return [json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in plain]


def _foreign(rng: random.Random, lines: list[bytes]) -> list[bytes]:
    """Replaced by the lines of another journal of the same user; filled in by `tamper`."""
    return lines


KINDS: dict[str, Tamper] = {
    "value edited": _edit_value, "bit flipped": _flip_byte, "records removed": _remove, "records swapped": _swap,
    "record inserted": _insert, "record repeated": _repeat, "end cut at a line": _cut, "end cut anywhere": _cut_inside,
    "re-chained without the key": _rechain, "rewritten without a chain": _unchain, "records of another run": _foreign,
    "older journal and head put back": _foreign,
}  # fmt: skip


class World:
    """Journals as the product writes them, in a folder of its own with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "MLOPS_KEYS": str(folder / "keys")}
        self.made = 0

    def write(self, rng: random.Random, *, closed: bool) -> tuple[Path, bytes, bytes]:
        """A journal; with it content and head as they were at some moment while it was written."""
        self.made += 1
        path = self.folder / "runs" / f"run-{self.made:05d}" / "journal.jsonl"
        count = rng.randint(4, 40)
        moment = rng.randrange(1, count)
        earlier = b"", b""
        journal = Journal(path, Redactor({}), env=self.env)
        for number in range(count):
            journal.append("outcome", call_id=f"c{number:04d}", status="ok", data={"n": number, "x": rng.random()})
            if number == moment - 1:
                earlier = path.read_bytes(), path.with_name(HEAD).read_bytes()
        if closed:
            journal.close()
        else:  # as a killed process leaves it
            journal._finalizer.detach()
            journal._tail.heads.close()
            os.close(journal._tail.file)
        return path, *earlier

    def tamper(self, rng: random.Random, kind: str) -> bool:
        """Whether one tampering of this kind is found."""
        path, earlier, earlier_head = self.write(rng, closed=rng.random() < 0.5)
        before = path.read_bytes()
        if kind == "older journal and head put back":
            path.write_bytes(earlier)
            path.with_name(HEAD).write_bytes(earlier_head)
        else:
            lines = before.splitlines(keepends=True)
            changed = KINDS[kind](rng, lines)
            if kind == "records of another run":
                other = self.write(rng, closed=True)[0].read_bytes().splitlines(keepends=True)
                place = rng.randrange(len(lines))
                changed = rng.choice(
                    [other, [*lines[:place], *other[place:]], [*lines, *other[len(lines) :], other[-1]]]
                )
            if b"".join(changed) == before:
                return self.tamper(rng, kind)
            path.write_bytes(b"".join(changed))
            if rng.random() < 0.2:  # who changes the journal may take its head away, too
                path.with_name(HEAD).unlink()
        return bool(verify_journal(path, self.env))

    def false_alarms(self, rng: random.Random, count: int) -> int:
        """Of untouched journals: closed, killed, killed inside a record, and continued."""
        alarms = 0
        for number in range(count):
            path, *_ = self.write(rng, closed=number % 2 == 0)
            if number % 4 == 1:
                with path.open("ab") as file:
                    file.write(b'{"v":2,"seq"')
            if number % 3 == 0:
                with Journal(path, Redactor({}), env=self.env) as journal:
                    journal.append("outcome", call_id="later")
            alarms += bool(verify_journal(path, self.env))
        return alarms


def costs(folder: Path, records: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each append with the chain, and of the same write and sync without it, in turn."""
    env = {**os.environ, "MLOPS_KEYS": str(folder / "keys")}
    redactor = Redactor({})
    journal = Journal(folder / "runs" / "cost" / "journal.jsonl", redactor, env=env)
    plain = os.open(folder / "plain.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sync = getattr(os, "fdatasync", os.fsync)
    data = {"champion_version": "2", "canary_percent": 5.0, "message": "x" * 300, "scores": [0.5] * 20}
    chained, bare = list[float](), list[float]()

    def without(number: int) -> None:
        fields = redactor.data({"call_id": f"c{number:04d}", "status": "ok", "data": data})
        record = {"v": 1, "seq": number, "ts": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        os.write(plain, (json.dumps(record, separators=(",", ":")) + "\n").encode())
        sync(plain)

    for number in range(records):
        for side in ("chained", "bare") if number % 2 else ("bare", "chained"):
            began = time.perf_counter()
            if side == "chained":
                journal.append("outcome", call_id=f"c{number:04d}", status="ok", data=data)
            else:
                without(number)
            (chained if side == "chained" else bare).append((time.perf_counter() - began) * 1000)
    os.close(plain)
    journal.close()
    return chained, bare


def without_disk(folder: Path, records: int) -> list[float]:
    """Milliseconds of each append where nothing waits for the disk: what the processor does."""
    from tools.core import journal as module

    sync, module._sync = module._sync, lambda _: None
    times = list[float]()
    try:
        with Journal(
            folder / "runs" / "alone" / "journal.jsonl",
            Redactor({}),
            env={**os.environ, "MLOPS_KEYS": str(folder / "keys")},
        ) as journal:
            for number in range(records):
                began = time.perf_counter()
                journal.append("outcome", call_id=f"c{number:04d}", status="ok", data={"message": "x" * 400})
                times.append((time.perf_counter() - began) * 1000)
    finally:
        module._sync = sync
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tamperings", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--records", type=int, default=2000, help="appends of each side (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="mlops-crew-audit-"))
    try:
        world = World(folder)
        found: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        for number in range(options.tamperings):
            kind = list(KINDS)[number % len(KINDS)]
            found[kind].append(world.tamper(rng, kind))
        alarms = world.false_alarms(rng, max(20, options.tamperings // 10))
        chained, bare = costs(folder, options.records)
        alone = without_disk(folder, options.records)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'tampering':34} tried  found")
    for kind, results in found.items():
        print(f"{kind:34} {len(results):5}  {sum(results):5}")
    tried, caught = sum(map(len, found.values())), sum(map(sum, found.values()))
    print(f"{'all':34} {tried:5}  {caught:5}\nuntouched journals called changed: {alarms}\n")
    print("ms per record                      median    p95")
    for name, values in (("with chain and head", chained), ("without", bare)):
        print(f"{name:34} {statistics.median(values):6.3f} {statistics.quantiles(values, n=20)[-1]:6.3f}")
    cost = statistics.median(chained) - statistics.median(bare)
    print(f"{'chain, head and redaction, no disk':34} {statistics.median(alone):6.3f}")
    print(f"the chain costs {cost:.3f} ms at the median, bound {BOUND_MS}; run it on an otherwise idle machine")
    return int(caught < tried or alarms > 0 or cost > BOUND_MS)


if __name__ == "__main__":
    sys.exit(main())
