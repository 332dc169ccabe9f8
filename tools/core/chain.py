"""How records of a journal are tied together and signed, and the head that says where the chain ends.

A line is the record's JSON with two more fields at its end. `hash` is SHA-256 over the previous record's hash and the
record's own bytes: anybody can follow the chain. `mac` is an HMAC over hash and bytes, with a key that lies outside
project and state folder (`keys.py`): nobody can add a link without it.

The end of a chain is not in the chain, so a cut would leave a shorter one that is whole. The head says it: sequence
number, hash and size after the last record, signed. It is kept twice, beside the journal, where it travels with the
folder, and in the keys' folder, where whoever can write the state folder cannot put an older one back. It is written
after each record without being forced to the disk: after a power cut it may be behind the journal, never ahead of it.

Nothing here decides what is wrong with a journal (`audit.py`) or writes records (`journal.py`).
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.core.files import opened_folder
from tools.core.keys import keys_folder, sign, verify

FORMAT = 2
KEY_NAME = "journal"
HEAD = "journal.head"
_HEAD_BYTES = 512  # one sector: a head is overwritten in place, whole
_MAC_CHARS = 32
_SEAL = re.compile(rb',"hash":"([0-9a-f]{64})","mac":"([0-9a-f]{32})"}\n?\Z')
_SEAL_BYTES = len(',"hash":"","mac":""}') + 64 + _MAC_CHARS


@dataclass(frozen=True)
class Link:
    """A line taken apart: the record's own bytes, its place in the chain, and whether our key signed it."""

    body: bytes
    hash: str
    authentic: bool


def genesis(before: bytes) -> str:
    """The hash that the first chained record follows; `before`: records of format 1 that the journal began with."""
    return hashlib.sha256(b"journal\n" + hashlib.sha256(before).digest()).hexdigest()


def link_hash(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()


def seal(body: bytes, previous: str, key: bytes) -> tuple[bytes, str, str]:
    """The line (with its end) of a record's JSON object `body`, its hash and its mac."""
    digest = link_hash(previous, body)
    mac = _mac(key, digest, body)
    return b'%s,"hash":"%s","mac":"%s"}\n' % (body[:-1], digest.encode(), mac.encode()), digest, mac


def unseal(line: bytes, key: bytes) -> Link | None:
    """The parts of a line; None when it carries no hash."""
    found = _SEAL.search(line[-_SEAL_BYTES - 1 :])
    if found is None:
        return None
    body = line.removesuffix(b"\n")[:-_SEAL_BYTES] + b"}"
    digest, mac = found[1].decode(), found[2].decode()
    return Link(body, digest, _mac(key, digest, body) == mac)


def _mac(key: bytes, digest: str, body: bytes) -> str:
    return sign(key, b"record\n" + digest.encode() + body)[:_MAC_CHARS]


def key_id(key: bytes) -> str:
    """Tells keys apart, and nothing about them."""
    return hashlib.sha256(b"key id\n" + key).hexdigest()[:16]


@dataclass(frozen=True)
class Head:
    """Where a journal ends: `seq` and `hash` of its last record (-1 before the first), its size in bytes. `closed`: its
    writer ended in order. `run` is the name of the folder that it belongs to."""

    run: str
    seq: int
    hash: str
    size: int
    closed: bool
    key: str

    def signed(self, key: bytes) -> bytes:
        content = (
            f'{{"v":{FORMAT},"run":{json.dumps(self.run)},"seq":{self.seq},"hash":"{self.hash}","size":{self.size},'
            f'"closed":{"true" if self.closed else "false"},"key":"{self.key}"'
        ).encode()
        return (b'%s,"mac":"%s"}' % (content, sign(key, b"head\n" + content).encode())).ljust(_HEAD_BYTES - 1) + b"\n"

    @classmethod
    def read(cls, content: bytes, key: bytes) -> "Head | None":
        """The head in a file's content; None when it is none, or not signed with `key` though it names it.

        One that names another key is returned unverified: its reader tells by `key`.
        """
        stated, _, mac = content.rstrip().rpartition(b',"mac":"')
        try:
            fields = json.loads(stated + b"}")
            found = cls(
                str(fields["run"]), int(fields["seq"]), str(fields["hash"]), int(fields["size"]),
                fields["closed"] is True, str(fields["key"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        signed = verify(key, b"head\n" + stated, mac.removesuffix(b'"}').decode("ascii", "replace"))
        return found if signed or found.key != key_id(key) else None


@dataclass(frozen=True)
class HeadPlaces:
    """The two files of a journal's head."""

    near: Path
    far: Path

    @classmethod
    def of(cls, journal: Path, env: Mapping[str, str]) -> "HeadPlaces":
        return cls(
            journal.with_name(HEAD), _heads_folder(journal.parent.resolve().parent, env) / f"{run_label(journal)}.head"
        )

    def named_alike(self) -> list[Path]:
        """Heads that were kept for a journal of this run's name, wherever its folder was."""
        return sorted(self.far.parent.parent.glob(f"*/{self.far.name}"))


def heads_of(runs: Path, env: Mapping[str, str]) -> set[str]:
    """Names of the runs in the folder `runs` whose journals' heads are kept, whether they are still there or not."""
    return {path.stem for path in _heads_folder(runs.resolve(), env).glob("*.head")}


def signs(env: Mapping[str, str]) -> bool:
    """Whether journals were signed on this machine, of any project: none of the old format is made any more then."""
    return any((keys_folder(env) / "heads").glob("*/*.head"))


def _heads_folder(runs: Path, env: Mapping[str, str]) -> Path:
    return keys_folder(env) / "heads" / hashlib.sha256(os.fsencode(runs)).hexdigest()[:16]


def run_label(journal: Path) -> str:
    """The name of a journal's folder, as a file's name of bearable length."""
    name = journal.parent.resolve().name
    return name if len(os.fsencode(name)) <= 60 else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def is_plain(found: os.stat_result) -> bool:
    """A regular file with one name: what is written to it is written nowhere else."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


class HeadWriter:
    """Keeps a journal's two heads up to date. Not thread-safe: the journal's lock guards it.

    Raises:
        OSError: a head cannot be written, or a link is in its place.
    """

    def __init__(self, places: HeadPlaces, run: str, key: bytes) -> None:
        self._run, self._key, self._key_id = run, key, key_id(key)
        self._files: list[int] = []
        try:
            for place in (places.near, places.far):
                with opened_folder(place.parent) as folder:
                    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
                    file = os.open(place.name, flags, 0o600, dir_fd=folder)
                    self._files.append(file)
                    if not is_plain(os.fstat(file)):
                        raise OSError(errno.EINVAL, "it is not a plain file of its own", str(place))
                    os.fsync(folder)
        except OSError:
            self.close()
            raise

    def write(self, seq: int, digest: str, size: int, *, closed: bool = False, durable: bool = False) -> None:
        content = Head(self._run, seq, digest, size, closed, self._key_id).signed(self._key)
        for file in self._files:
            os.pwrite(file, content, 0)
            if durable:
                os.fsync(file)

    def close(self) -> None:
        for file in self._files:
            with contextlib.suppress(OSError):
                os.close(file)
        self._files = []


def read_head(path: Path, key: bytes) -> Head | None:
    """The head in a file; None where it holds none that is valid.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            content = os.read(file, 4 * _HEAD_BYTES)
        finally:
            os.close(file)
    except FileNotFoundError:
        raise
    except OSError:  # a link, a folder
        return None
    return Head.read(content, key)
