"""What a confined process can still do: tried, in a process of its own."""

# ruff: noqa: E501

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tools.core.child_env import child_env
from tools.core.child_log import CleanLog
from tools.core.isolation import Available, Sandbox, all_but, available, confined, python_files

THIS = available()
needs_landlock = pytest.mark.skipif(not THIS.landlock, reason="this kernel has no Landlock")
needs_network = pytest.mark.skipif(not THIS.network, reason="this kernel cannot cut a process off from the network")

TRY = """
import json, os, socket, sys
def tried(step):
    try:
        step()
        return "done"
    except OSError:
        return "refused"
outside, own, port, parent = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def connect():
    with socket.socket() as s:
        s.settimeout(2); s.connect(("127.0.0.1", port))
print(json.dumps({
    "read outside": tried(lambda: open(outside + "/secret").read()),
    "write outside": tried(lambda: open(outside + "/made", "w")),
    "empty outside": tried(lambda: os.truncate(outside + "/secret", 0)),
    "remove outside": tried(lambda: os.unlink(outside + "/secret")),
    "write own": tried(lambda: open(own + "/made", "w").write("x")),
    "link out": tried(lambda: (os.symlink(outside + "/secret", own + "/link"), open(own + "/link").read())),
    "connect": tried(connect),
    "a socket file": tried(lambda: socket.socket(socket.AF_UNIX).close()),
    "parent's environment": tried(lambda: open(f"/proc/{parent}/environ").read()),
    "signal the parent": tried(lambda: os.kill(parent, 0)),
    "gain by sudo": tried(lambda: os.setuid(0)) if os.getuid() else "refused",
}))
"""


def ask(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    for name in ("outside", "own"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "outside/secret").write_text("secret")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-c", TRY, str(tmp_path / "outside"), str(tmp_path / "own"), port, str(os.getpid())]
        ended = subprocess.run(
            [*confined(sandbox), *command], capture_output=True, text=True, timeout=120, env=child_env(), check=True
        )
    return json.loads(ended.stdout)


@needs_landlock
@needs_network
def test_a_confined_process_has_its_own_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    found = ask(Sandbox(read=python_files(), write=(tmp_path / "own",)), tmp_path)
    assert found.pop("write own") == "done"
    assert set(found.values()) == {"refused"}, found
    assert (tmp_path / "outside/secret").read_text() == "secret"
    assert (tmp_path / "own/made").stat().st_mode & 0o077 == 0, "others may read what it wrote"


@needs_landlock
def test_a_process_that_may_use_the_network_is_kept_from_files_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "outside").mkdir()
    for number in range(3000):  # a busy folder for temporary files: the list of its entries fits no command line
        (tmp_path / f"{number:04}-{'x' * 60}").touch()
    found = ask(Sandbox(write=(tmp_path / "own",), closed=(tmp_path / "outside",), network=True), tmp_path)
    assert found["connect"] == "done" and found["write own"] == "done"
    for what in ("read outside", "write outside", "remove outside", "link out", "parent's environment"):
        assert found[what] == "refused", what


def test_all_but_some_is_everything_else(tmp_path: Path) -> None:
    for name in ("open/a", "closed/b", "deep/closed/c", "deep/open/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "closed")
    found = all_but([tmp_path / "closed", tmp_path / "deep/closed"])
    inside = {str(path.relative_to(tmp_path)) for path in found if path.is_relative_to(tmp_path)}
    assert inside == {"open", "deep/open"}
    assert not any(tmp_path.is_relative_to(path) for path in found)
    assert Path("/usr") in found


def test_modules_are_readable_but_neither_secrets_nor_state_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("code.py", ".env", "server.key"):
        (tmp_path / name).write_text("")
    for name in ("package", "config", ".mlops", "state/deep", "keys"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out").symlink_to("/")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {path.name for path in python_files(tmp_path, never=[tmp_path / "state/deep"]) if path.parent == tmp_path}
    assert found == {"code.py", "package", "keys"}
    assert tmp_path not in python_files(tmp_path)


def test_people_are_told_what_the_platform_does_not_give() -> None:
    assert "files by allow-list" in Available(5, True, True, True).words()
    without = Available(0, True, False, False).words()
    assert "NOT bounded" in without and "network NOT cut off" in without


# --- environments and logs of children


def test_a_childs_environment_is_an_allow_list() -> None:
    given = {
        "PATH": "/bin", "HOME": "/h", "LANG": "C", "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "k", "AWS_SECRET_ACCESS_KEY": "k",
        "MLFLOW_TRACKING_TOKEN": "t", "DATABASE_URL": "postgresql://u:p@h/d", "LD_PRELOAD": "/x.so", "PYTHONSTARTUP": "/x.py", "ANY_PASS": "p",
        "HTTPS_PROXY": "http://user:secret@proxy:1", "HTTP_PROXY": "http://proxy:1", "SSH_AUTH_SOCK": "/s",
    }  # fmt: skip
    assert child_env(given) == {name: given[name] for name in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS")}
    assert child_env(given, network=True, also=["ANY_PASS"], values={"X": "1"}).keys() - child_env(given).keys() == {
        "HTTP_PROXY", "ANY_PASS", "X", "no_proxy", "NO_PROXY",
    }  # fmt: skip


def test_output_is_cleaned_before_it_reaches_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with CleanLog(path, lambda line: line.replace("hunter2", "[redacted]")) as log:
        script = (
            "import sys; print('a hunter2 b'); sys.stdout.write('x' * 200_000 + 'hunter2'); sys.stderr.write('hunter2')"
        )
        subprocess.run(
            [sys.executable, "-c", script], stdout=log.write_end, stderr=subprocess.STDOUT, timeout=60, check=True
        )
    text = path.read_text()
    assert "hunter2" not in text and "a [redacted] b" in text and len(text) > 200_000
    assert path.stat().st_mode & 0o077 == 0
    assert not any(thread.name == "child-log" for thread in threading.enumerate())
