"""Takes a process's own powers away, before it loads code of others: files, network, signals, new privileges.

`confine` is called by a child on itself, while it has one thread; what it gives up it cannot get back, nor can anything
that it starts. On Linux: no new privileges, Landlock (files by an allow-list, TCP, signals and abstract sockets beyond
the child), a system call filter (no sockets, no tracing), a network namespace. Elsewhere, or on an old kernel, less;
`available` says what there is.

Sources: Landlock's user-space API (https://docs.kernel.org/userspace-api/landlock.html), seccomp's filter
(https://docs.kernel.org/userspace-api/seccomp_filter.html), unshare(2), prctl(2).
"""

import contextlib
import ctypes
import json
import os
import platform
import resource
import struct
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.core.names import is_secret_file

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
# The three system calls have these numbers on every architecture.
SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
KNOWN_RIGHTS = (13, 14, 15, 15, 16)  # how many kinds of access to files ABI 1, 2, 3, 4 and 5 know
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
NET_BIND_CONNECT_TCP = 3  # ABI 4
SCOPE_SOCKETS_AND_SIGNALS = 3  # ABI 6
CAPABILITY_VERSION = 0x20080522
# chown, dac_override, fowner, fsetid, setgid, setuid, net_bind_service
KEPT_CAPABILITIES = sum(1 << number for number in (0, 1, 3, 4, 6, 7, 10))
O_PATH = getattr(os, "O_PATH", 0)

# seccomp: architecture -> (its audit number, calls that are refused).
_BLOCKED: dict[str, tuple[int, tuple[int, ...]]] = {
    # socket, ptrace, process_vm_readv, process_vm_writev, io_uring_setup, bpf, userfaultfd, keyctl, add_key; then what
    # changes a file without opening it: modes, owners, attributes
    "x86_64": (
        0xC000003E,
        (41, 101, 310, 311, 425, 321, 323, 250, 248, 90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190),
    ),
    "aarch64": (0xC00000B7, (198, 117, 270, 271, 425, 280, 282, 219, 217, 52, 53, 452, 54, 55, 5, 6, 7)),
}
_X32 = 0x40000000


@dataclass(frozen=True)
class Sandbox:
    """What a child may do.

    Args:
        read: files and folders that it may read (and programs that it may start); all that is below them too.
        write: folders that it may change, besides reading them.
        names: folders below which it may see which names there are, and no more.
        closed: files and folders that it may not read, while it may read all others; empty: only `read` says.
        network: whether it may use the network.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    names: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    network: bool = False


@dataclass(frozen=True)
class Available:
    """What this platform can take away. `landlock` is the version of its interface, 0: none."""

    landlock: int
    no_new_privileges: bool
    call_filter: bool
    network_namespace: bool

    @property
    def network(self) -> bool:
        """Whether a child can be cut off from the network."""
        return self.call_filter or self.network_namespace

    def words(self) -> str:
        """One line for people: what holds for models and trainers here, and what does not."""
        files = (
            f"files by allow-list (Landlock {self.landlock})"
            if self.landlock
            else "files NOT bounded (no Landlock: needs Linux 5.13 or newer with it enabled); none can be written"
        )
        network = "no network" if self.network else "network NOT cut off"
        return f"models load in a process without secrets: {files}, {network}"


def available() -> Available:
    """What this platform gives, found by asking the kernel, in a child where asking changes the process."""
    if sys.platform != "linux":
        return Available(0, False, False, False)
    asked = subprocess.run([sys.executable, "-I", __file__], capture_output=True, text=True, timeout=60, env={})
    try:
        return Available(**json.loads(asked.stdout))
    except (ValueError, TypeError):
        return Available(0, False, False, False)


def _ask_kernel() -> Available:
    """What `confine` would find, by doing it: for a process that ends at once."""
    libc = _libc()
    return Available(
        landlock=max(0, libc.syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))),
        no_new_privileges=libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        network_namespace=_leave_network(),
        call_filter=_filter_calls(),
    )


def confine(sandbox: Sandbox) -> list[str]:
    """Give up what the sandbox does not allow, for this process and all that it starts.

    To be called while the process has a single thread: what is given up holds for the calling thread.

    Returns: what could not be given up here, in words; empty where everything was.
    """
    missing: list[str] = []
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        _bound_files_crudely(sandbox)
        return ["files and network are not bounded: this needs Linux"]
    libc = _libc()
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        missing.append("new privileges are not refused")
    if not sandbox.network and not _leave_network():
        missing.append("no network namespace")
    if not _drop_capabilities():
        missing.append("powers of the administrator are kept")
    version = libc.syscall(SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1 or not _landlock(sandbox, version):
        _bound_files_crudely(sandbox)
        missing.append("reading files is not bounded (no Landlock)")
    if not sandbox.network and not _filter_calls():
        missing.append("system calls are not filtered")
    return missing


def _bound_files_crudely(sandbox: Sandbox) -> None:
    """Where files cannot be named: a process that needs no network, a model's, writes no byte to any file."""
    if not sandbox.network:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, the process does not die of it
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _leave_network() -> bool:
    """A network of the process's own, with nothing in it."""
    libc = _libc()
    return libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWNET) == 0


def _drop_capabilities() -> bool:
    """Keep of an administrator's powers only those over files, which Landlock bounds; others look into processes."""
    libc = _libc()
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0))
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held):
        return False
    low = struct.unpack("=6I", held.raw)
    kept = ctypes.create_string_buffer(
        struct.pack("=6I", low[0] & KEPT_CAPABILITIES, low[1] & KEPT_CAPABILITIES, 0, 0, 0, 0)
    )
    return libc.capset(header, kept) == 0


def _landlock(sandbox: Sandbox, version: int) -> bool:
    libc = _libc()
    handled = (1 << KNOWN_RIGHTS[min(version, len(KNOWN_RIGHTS)) - 1]) - 1
    network = NET_BIND_CONNECT_TCP if version >= 4 and not sandbox.network else 0
    scoped = SCOPE_SOCKETS_AND_SIGNALS if version >= 6 else 0
    attributes = struct.pack("=QQQ", handled, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = libc.syscall(SYS_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    try:
        # What is open beside `closed` is found here, by the child: the list may be longer than a command line.
        for path in (*sandbox.read, *(all_but(sandbox.closed) if sandbox.closed else ())):
            _allow(ruleset, path, READ & handled)
        for path in sandbox.names:
            _allow(ruleset, path, READ_DIR)
        for path in sandbox.write:
            _allow(ruleset, path, handled)
        return libc.syscall(SYS_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) == 0
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    """Let a file, or all below a folder, be used. What is not there is left out."""
    try:
        place = os.open(path, O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights &= -1 if path.is_dir() else ON_FILES
        rule = struct.pack("=Qi", rights, place)
        if rights:
            kind, flags = ctypes.c_int(RULE_PATH_BENEATH), ctypes.c_uint32(0)
            _libc().syscall(SYS_ADD_RULE, ctypes.c_int(ruleset), kind, rule, flags)
    finally:
        os.close(place)


def _filter_calls() -> bool:
    """Refuse sockets, tracing of other processes and the like, whoever in this process asks."""
    found = _BLOCKED.get(platform.machine())
    if found is None:
        return False
    architecture, calls = found
    load, jump_if, jump_if_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | 13  # EACCES
    program = [
        (load, 0, 0, 4),
        (jump_if, 1, 0, architecture),
        (answer, 0, 0, refuse),
        (load, 0, 0, 0),
        (jump_if_least, len(calls) + 1, 0, _X32),  # the second set of calls of x86-64
        *((jump_if, len(calls) - place, 0, number) for place, number in enumerate(calls)),
        (answer, 0, 0, allow),
        (answer, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = _libc()
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) == 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# --- what a Python process must read

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/fonts", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/kernel", "/proc/sys/vm", "/sys/devices/system",
    "/sys/fs/cgroup", "/dev/urandom", "/dev/random", "/dev/zero", "/proc/self",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1")


def python_files(project: Path | None = None, *, never: Iterable[Path] = ()) -> tuple[Path, ...]:
    """What a Python process of this environment reads: the system's libraries, the interpreter, the modules.

    Folders on the module path that are no installation (the project, a checkout) are opened entry by entry, without
    what is hidden, `config`, and `never`: they may hold `.env`, state and keys.
    """
    closed = tuple(path.resolve() for path in never)
    found = [Path(path) for path in _SYSTEM]
    installed = [Path(prefix).resolve() for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix}]
    found += installed
    places = [Path(entry).resolve() for entry in sys.path if entry] + ([project.resolve()] if project else [])
    for place in dict.fromkeys(places):
        if any(place.is_relative_to(prefix) for prefix in installed):
            continue
        if place.is_file() or place.name in ("site-packages", "dist-packages", "lib-dynload"):
            found.append(place)
        elif place.is_dir():
            found += [entry for entry in place.iterdir() if _is_open(entry, place, closed)]
    return tuple(path for path in found if path.exists())


def _is_open(entry: Path, place: Path, closed: tuple[Path, ...]) -> bool:
    """Whether what stands in a folder of code may be read: nothing hidden or secret, no link that leads out."""
    real = entry.resolve()
    if entry.name.startswith(".") or entry.name == "config" or is_secret_file(entry.name):
        return False
    shut = any(path.is_relative_to(real) or real.is_relative_to(path) for path in closed)
    return real.is_relative_to(place) and not shut


def devices() -> tuple[Path, ...]:
    """Devices that a program may write to: nothing, and a graphics card."""
    return tuple(Path(path) for path in _DEVICES if Path(path).exists())


# --- programs of others

_RUN = "import sys; sys.path.insert(0, sys.argv[1]); from tools.core.isolation import run; run(sys.argv[2:])"


def confined(sandbox: Sandbox) -> list[str]:
    """What stands before the command line of a program, so that it runs in the sandbox."""
    told = json.dumps(asdict(sandbox), default=str)
    # -P: nothing of the current folder is imported before the process is confined.
    return [sys.executable, "-P", "-c", _RUN, str(Path(__file__).resolve().parents[2]), told]


def run(arguments: list[str]) -> None:
    """Become the program of `confined`'s command line, confined."""
    told = json.loads(arguments[0])
    for name in ("read", "write", "names", "closed"):
        told[name] = tuple(Path(path) for path in told[name])
    confine(Sandbox(**told))
    os.execvp(arguments[1], arguments[1:])


def all_but(closed: Iterable[Path]) -> tuple[Path, ...]:
    """All that is there now but some files and folders: the other entries of each folder on the way to one of them."""
    shut = [Path(os.path.realpath(path)) for path in closed]
    found: list[Path] = []
    waiting = [Path("/")]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError):
            for entry in folder.iterdir():
                real = Path(os.path.realpath(entry))
                if any(real.is_relative_to(path) for path in shut):
                    continue
                if any(path.is_relative_to(real) for path in shut):
                    if not entry.is_symlink():
                        waiting.append(entry)
                else:
                    found.append(entry)
    return tuple(found)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_ask_kernel())))
