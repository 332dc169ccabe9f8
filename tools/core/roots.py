"""The one resolver of paths: what a call may read, and where it may write.

A call reads the project's data, the files of runs, and what embedded stores hand out; it writes into its own run's
files, and into the project's data folders. Everything is decided on where a path really ends, links followed.

Refused wherever they lie: the gateway's own state (journals, approvals, stores), `config`, hidden files, files named
like secrets, devices and pipes, addresses, `~`.
"""

import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.core.clean import clean_text
from tools.core.errors import FixableError, in_words, short
from tools.core.names import is_name, is_secret_file

RUNS, FILES = "runs", "files"
# What results of embedded stores name: store -> the files, below it.
HANDED_OUT = {"ab_tests": (re.compile(r"[^/]+/(?:units\.parquet|test\.json)"),)}
PROTECTED_FOLDERS = frozenset({"config"})  # of the project: policy, roles, tasks, stack, goal
MAX_PATH_BYTES = 4096  # of a path, its end mark included, and of one part of it: what the system takes
MAX_PART_BYTES = 255
MAX_FOLDER_ENTRIES = 20_000
CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".pyi", ".pyx", ".pth", ".so", ".dll", ".dylib", ".egg", ".whl"})

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Roots:
    """Where the paths of a call may lead. Every folder is kept as it really is, links followed.

    Args:
        project: relative paths start here.
        home: the state folder.
        run_id: whose files may be written.
        data: folders (or single files) with the project's data; empty: the project folder, for reading only.
    """

    project: Path
    home: Path
    run_id: str
    data: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("project", "home"):
            object.__setattr__(self, name, _real(getattr(self, name)))
        object.__setattr__(self, "data", tuple(dict.fromkeys(_real(self.project / path) for path in self.data)))
        if not is_name(self.run_id):
            raise FixableError(f"{short(self.run_id)} is no id of a run")

    def of_run(self, run_id: str) -> "Roots":
        """The same for another run. Raises `FixableError`: the id is none."""
        return replace(self, run_id=run_id)

    @property
    def run_files(self) -> Path:
        """The folder of the run's own files."""
        return self.home / RUNS / self.run_id / FILES

    # --- reading

    def read(self, value: str) -> Path:
        """Where a path that is to be read really leads: a file, a folder, or nothing yet.

        Raises:
            FixableError: it leads to what no call may read; says where a call may.
        """
        with _told(value):
            real = self._resolved(value)
            self._check_readable(real, value)
            if real.is_dir():
                if any(_below(inner, real) is not None for inner in (self.project, self.home)):
                    raise FixableError(f"{short(value)} holds more than data; name a folder of data in it")
                for entry in _entries(real, value):
                    self._check_readable(_real(entry), str(entry), inside=True)
            return real

    def files_below(self, folder: Path) -> list[Path]:
        """The regular files below a folder that `read` gave, sorted; hidden ones are left out."""
        found: list[Path] = []
        for entry in _entries(folder, str(folder)):
            if entry.is_file():
                self._check_readable(_real(entry), str(entry), inside=True)
                found.append(entry)
        return sorted(found)

    def is_run_file(self, path: Path) -> bool:
        """Whether it is one of the files of a run, this one or another; `path` as `read` gave it."""
        parts = _below(path, self.home / RUNS)
        return parts is not None and len(parts) > 1 and parts[1] == FILES

    def _check_readable(self, real: Path, value: str, *, inside: bool = False) -> None:
        shown = short(value)
        where = f"in a folder that was named, {shown} " if inside else f"{shown} "
        below = self._readable_part(real)
        if below is None:
            raise FixableError(f"{where}is not among the files a call may read; valid: {self._readable_words()}")
        for part in below:
            if part.startswith("."):
                raise FixableError(f"{where}is a hidden file, or in a hidden folder; calls read none")
            if is_secret_file(part):
                raise FixableError(f"{where}is named like a secret; calls read none")
        try:
            mode = real.stat().st_mode
        except OSError:
            return  # not there: the reader says so, in its own words
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise FixableError(f"{where}is a device, a pipe or a socket; give a file")

    def _readable_part(self, real: Path) -> tuple[str, ...] | None:
        """What lies below the root that holds the path; None: no root does."""
        state = _below(real, self.home)
        if state is not None:
            if self.is_run_file(real):
                return state[3:]
            if len(state) > 1 and any(form.fullmatch("/".join(state[1:])) for form in HANDED_OUT.get(state[0], ())):
                return state[1:]
            return None
        project = _below(real, self.project)
        if project and project[0].casefold() in PROTECTED_FOLDERS and real not in self.data:
            return None
        for root in self.data or (self.project,):
            below = _below(real, root)
            if below is not None:
                return below or (real.name if root.is_file() else "",)
        return None

    def _readable_words(self) -> str:
        data = ", ".join(self._show(root) for root in self.data) or "the project folder"
        return f"files below {data}, and the files of runs ({self._show(self.home / RUNS)}/RUN/{FILES})"

    # --- writing

    def write(self, value: str) -> Path:
        """Where a path that is to be made really leads. It is not made.

        Raises:
            FixableError: it leads elsewhere than into the run's files or below a data folder of the project, through a
                link, over something that is there, or to what Python could import, or its name shows as another than
                it is; says what is valid.
        """
        with _told(value):
            return self._written(value)

    def _written(self, value: str) -> Path:
        lexical = self._lexical(value)
        real = _real(lexical)
        shown = short(value)
        own = _below(real, self.run_files)
        below: tuple[str, ...] | None = None
        if not own:
            below = next((part for root in self._writable() if (part := _below(real, root))), None)
            if below is None or _below(real, self.home) is not None:
                raise FixableError(f"{shown} is not where a call may write; valid: {self._writable_words()}")
            if os.path.lexists(real) and not (real.is_dir() and not any(real.iterdir())):
                raise FixableError(f"{shown} is there already, and not as an empty folder; name a new one")
        if any(parent.exists() and not parent.is_dir() for parent in real.parents):
            raise FixableError(f"{shown} lies below a file; name a folder")
        if _through_link(lexical, (self.project, self.home)):
            raise FixableError(f"{shown} leads through a link; name a place that does not")
        for part in own or below or ():
            if part.startswith(".") or is_secret_file(part):
                raise FixableError(f"{shown} is hidden or named like a secret; choose another name")
            if clean_text(part) != part:
                raise FixableError(f"{shown} holds characters that show as nothing, as others or in another order")
        if real.suffix.lower() in CODE_SUFFIXES or self._importable(real):
            raise FixableError(f"{shown} is a place from which Python imports code; valid: {self._writable_words()}")
        return real

    def _writable(self) -> list[Path]:
        """The data folders strictly below the project."""
        return [
            root
            for root in self.data
            if (below := _below(root, self.project))
            and below[0].casefold() not in PROTECTED_FOLDERS
            and _below(root, self.home) is None
            and not root.is_file()
        ]

    def _importable(self, real: Path) -> bool:
        """Whether a folder between the project and the place holds Python code, so that it would be part of it."""
        if _below(real, self.project) is None or _below(real, self.home) is not None:
            return False
        folders = [folder for folder in real.parents if _below(folder, self.project)]
        return any(any(folder.glob("*.py")) for folder in folders)

    def _writable_words(self) -> str:
        below = "".join(f", or below {self._show(root)}" for root in self._writable())
        return f"a new name below {self._show(self.run_files)}{below}"

    # --- both

    def _lexical(self, value: str) -> Path:
        """The path as it is written, absolute. Raises `FixableError`: it is an address, or no path at all."""
        shown = short(value)
        if not value.strip() or _CONTROL.search(value):
            raise FixableError(f"{shown} is no path: it is empty, or holds control characters")
        path = self.project / value
        if _bytes(str(path)) >= MAX_PATH_BYTES or any(_bytes(part) > MAX_PART_BYTES for part in path.parts):
            raise FixableError(
                f"{shown} is too long: a name takes at most {MAX_PART_BYTES} bytes, a path fewer than {MAX_PATH_BYTES}"
            )
        if _ADDRESS.match(value) or value.startswith(("//", "\\\\")):
            raise FixableError(f"{shown} is an address; these come from the settings or the goal, never from a call")
        if value.startswith("~"):
            raise FixableError(f"{shown} begins with ~; give a path relative to the project, or an absolute one")
        return path

    def _resolved(self, value: str) -> Path:
        return _real(self._lexical(value))

    def _show(self, path: Path) -> str:
        below = _below(path, self.project)
        return "/".join(below) or "." if below is not None else str(path)


DATA_ROOTS = "MLOPS_DATA_ROOTS"


def roots_from(env: Mapping[str, str], project: Path, home: Path, run_id: str) -> Roots:
    """The roots of a process that was started alone, or by a gateway that said in `MLOPS_DATA_ROOTS` what its goal's
    data roots are (joined by `os.pathsep`). Unset: the project folder, for reading only."""
    given = [Path(value) for value in env.get(DATA_ROOTS, "").split(os.pathsep) if value.strip()]
    return Roots(project, home, run_id, tuple(given))


def roots_of_data(project: Path, home: Path, files: Iterable[str], folders: Iterable[str] = ()) -> tuple[Path, ...]:
    """The data roots of a goal, for `Roots.data`: the folders of its files, and those it declares.

    A file that lies in the project folder itself, in `config`, in the state folder or above the project stands for
    itself alone: its folder holds more than data.
    """
    project, home = _real(project), _real(home)
    found: list[Path] = []
    for value in files:
        path = _real(project / Path(value).expanduser())
        folder = path.parent
        below = _below(folder, project)
        broad = below == () or (below and below[0].casefold() in PROTECTED_FOLDERS)
        broad = broad or _below(folder, home) is not None or _is_broad(folder, (project, home))
        found.append(path if broad else folder)
    for value in folders:
        folder = _real(project / Path(value).expanduser())
        if _is_broad(folder, (project, home)) or _below(folder, home) is not None:
            raise FixableError(f"data root {short(value)} holds more than data; name a folder of its own for it")
        found.append(folder)
    return tuple(dict.fromkeys(found))


def _is_broad(folder: Path, inner: tuple[Path, ...]) -> bool:
    """Whether a folder is the root, a user's home, or holds the project or the state."""
    return len(folder.parts) < 3 or folder == Path.home() or any(_below(path, folder) is not None for path in inner)


def _entries(folder: Path, value: str) -> Iterator[Path]:
    """Everything below a folder that is not hidden; links to folders are given, not followed."""
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *sorted(files)):
            if name.startswith("."):
                continue
            count += 1
            if count > MAX_FOLDER_ENTRIES:
                raise FixableError(f"the folder {short(value)} holds more than {MAX_FOLDER_ENTRIES} files; name fewer")
            yield Path(parent, name)


def _through_link(path: Path, anchors: tuple[Path, ...]) -> bool:
    """Whether a folder on the way, below the anchor it starts from, or the end itself, is a link."""
    normal = Path(os.path.normpath(path))
    for part in (normal, *normal.parents):
        if _real(part) in anchors:
            return False
        if part.is_symlink():
            return True
    return False


def _below(path: Path, root: Path) -> tuple[str, ...] | None:
    """The parts of a path below a folder; empty for the folder itself, None where it lies elsewhere."""
    return path.relative_to(root).parts if path.is_relative_to(root) else None


def _real(path: Path) -> Path:
    """Where a path ends, every link followed; what does not exist is kept as it is written.

    Raises:
        FixableError: links go round in circles, or a part is too long.
    """
    try:
        return Path(os.path.realpath(path, strict=False))
    except (OSError, ValueError) as error:
        raise FixableError(f"{short(str(path))} cannot be followed: it is no usable path") from error


@contextmanager
def _told(value: str) -> Generator[None]:
    """What the system says of a path, as a refusal: whoever named it can name another."""
    try:
        yield
    except OSError as error:
        raise FixableError(f"{short(value)} cannot be looked at: {in_words(error)}; name another") from error


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
