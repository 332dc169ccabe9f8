"""Files to lines of text: compression by the name's end, encoding by what the bytes can only be."""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, cast

from tools.core.errors import FixableError
from tools.modeling.reading.settings import ReadSettings

TEXT_ENDS = (".csv", ".tsv")
PACKED_ENDS = (".gz", ".zip", ".zst", ".bz2", ".xz")
PARQUET_ENDS = (".parquet", ".pq")
KINDS = "CSV (.csv, .tsv; also .gz, .zip, .zst, .bz2, .xz) and Parquet (.parquet, .pq)"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD_BYTES = 1 << 16


def is_text(path: Path) -> bool:
    """Whether the name is that of a CSV file, packed or not."""
    return stem(path).endswith(TEXT_ENDS)


def stem(path: Path) -> str:
    """The name in small letters without the end that says how it is packed."""
    name = path.name.lower()
    return next((name.removesuffix(end) for end in PACKED_ENDS if name.endswith(end)), name)


@contextlib.contextmanager
def open_text(path: Path, settings: ReadSettings) -> Generator[tuple[Iterator[str], str]]:
    """The lines with their ends (LF, CRLF or CR), and the encoding.

    Raises:
        FixableError: it is packed wrongly, holds several files, or bytes that are not of its encoding (also while the
            lines are read).
    """
    try:
        with _open_bytes(path) as raw:
            buffered = io.BufferedReader(cast(Any, raw), HEAD_BYTES)
            encoding = settings.encoding or _encoding(buffered.peek(HEAD_BYTES)[:HEAD_BYTES], path)
            yield iter(io.TextIOWrapper(buffered, encoding, errors="strict", newline="")), encoding
    except UnicodeDecodeError as error:
        raise FixableError(_not_decoded(path, settings, error)) from error
    except (EOFError, OSError, zipfile.BadZipFile, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's word; those of the packers, a damaged gzip file's too, have no number
        raise FixableError(
            f"cannot read {path}: it is cut off, or not packed as its name says; valid kinds: {KINDS}"
        ) from error


def _encoding(head: bytes, path: Path) -> str:
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is None and b"\0" in head:
        raise FixableError(
            f"cannot read {path}: it holds NUL bytes, so it is no text in UTF-8; state data.read.encoding "
            "(utf-16-le where every second byte is NUL)"
        )
    return marked or "utf-8"


def _not_decoded(path: Path, settings: ReadSettings, error: UnicodeDecodeError) -> str:
    """Where the text stops being of its encoding, and how it would read in the usual other one."""
    tried = settings.encoding or "UTF-8"
    around = error.object[max(error.start - 12, 0) : error.start + 12]
    shown = around.decode("cp1252", "replace").replace("\n", " ").replace("\r", " ")
    return (
        f"cannot read {path}: it is not {tried} (byte 0x{error.object[error.start]:02x}); state "
        f"data.read.encoding: cp1252 would read {shown!r} there"
    )


@contextlib.contextmanager
def _open_bytes(path: Path) -> Generator[IO[bytes]]:
    name = path.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            held = [item for item in packed.namelist() if not item.endswith("/") and not item.startswith("__MACOSX")]
            if len(held) != 1:
                shown = ", ".join(held[:5]) or "none"
                raise FixableError(f"cannot read {path}: it must hold one file, and holds {len(held)} ({shown})")
            with packed.open(held[0]) as member:
                yield member
        return
    if name.endswith(".zst"):
        import pyarrow as pa

        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            yield cast(IO[bytes], stream)
        return
    opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix.lower(), open)
    with opened(path, "rb") as file:
        yield file
