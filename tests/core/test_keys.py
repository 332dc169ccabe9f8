"""Signing keys: made once, private, never behind a link, never inside what they sign."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tools.core.keys import KEY_BYTES, KeyFileError, keys_folder, sign, signing_key, verify


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"MLOPS_KEYS": str(tmp_path / "keys")}


def test_a_key_is_made_once_and_stays(env: dict[str, str]) -> None:
    key = signing_key("journal", env)
    assert len(key) == KEY_BYTES and signing_key("journal", env) == key
    assert signing_key("consent", env) != key


def test_folder_and_file_are_open_to_their_owner_only(env: dict[str, str]) -> None:
    previous = os.umask(0)
    try:
        signing_key("journal", env)
    finally:
        os.umask(previous)
    folder = keys_folder(env)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_folder_is_the_users_state_unless_it_is_set(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert keys_folder(home) == tmp_path / ".local" / "state" / "mlops-crew"
    assert keys_folder({**home, "XDG_STATE_HOME": str(tmp_path / "s")}) == tmp_path / "s" / "mlops-crew"
    assert keys_folder({**home, "XDG_STATE_HOME": "relative"}) == keys_folder(home)
    assert keys_folder({**home, "MLOPS_KEYS": str(tmp_path / "k")}) == tmp_path / "k"
    with pytest.raises(KeyFileError, match="absolute"):
        keys_folder({"MLOPS_KEYS": "keys"})


def test_only_the_key_that_signed_verifies_and_only_what_was_signed(env: dict[str, str]) -> None:
    key = signing_key("journal", env)
    signature = sign(key, b"payload")
    assert verify(key, b"payload", signature)
    assert not verify(key, b"payload.", signature)
    assert not verify(signing_key("consent", env), b"payload", signature)
    for wrong in ("", "é", signature[:-1], signature.upper(), signature + "0"):
        assert not verify(key, b"payload", wrong)


def test_a_linked_folder_or_key_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder = keys_folder(env)
    folder.symlink_to(elsewhere)
    with pytest.raises(KeyFileError, match="link"):
        signing_key("journal", env)
    folder.unlink()
    folder.mkdir(mode=0o700)
    (elsewhere / "known").write_bytes(b"k" * KEY_BYTES)
    (elsewhere / "known").chmod(0o600)
    (folder / "journal.key").symlink_to(elsewhere / "known")
    with pytest.raises(KeyFileError, match="link"):
        signing_key("journal", env)
    (folder / "journal.key").unlink()
    os.link(elsewhere / "known", folder / "journal.key")
    with pytest.raises(KeyFileError, match="link"):
        signing_key("journal", env)


def test_a_dangling_link_is_not_written_through(env: dict[str, str], tmp_path: Path) -> None:
    folder = keys_folder(env)
    folder.mkdir(mode=0o700)
    (folder / "journal.key").symlink_to(tmp_path / "nothing")
    with pytest.raises(KeyFileError):
        signing_key("journal", env)
    assert not (tmp_path / "nothing").exists()


def test_what_others_may_open_is_refused_with_the_remedy(env: dict[str, str]) -> None:
    signing_key("journal", env)
    folder = keys_folder(env)
    (folder / "journal.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        signing_key("journal", env)
    (folder / "journal.key").chmod(0o600)
    folder.chmod(0o750)
    with pytest.raises(KeyFileError, match="chmod 700"):
        signing_key("journal", env)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_key_of_another_user_is_refused(env: dict[str, str]) -> None:
    signing_key("journal", env)
    os.chown(keys_folder(env) / "journal.key", 12345, 12345)
    with pytest.raises(KeyFileError, match="another user"):
        signing_key("journal", env)


@pytest.mark.parametrize("content", [b"", b"short", b"k" * (KEY_BYTES + 1)])
def test_a_damaged_key_is_an_error_and_never_replaced(env: dict[str, str], content: bytes) -> None:
    signing_key("journal", env)
    file = keys_folder(env) / "journal.key"
    file.write_bytes(content)
    with pytest.raises(KeyFileError, match="damaged"):
        signing_key("journal", env)
    assert file.read_bytes() == content


def test_keys_inside_what_they_sign_are_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for inside in (project, project / ".mlops" / "keys"):
        with pytest.raises(KeyFileError, match="inside"):
            signing_key("journal", {"MLOPS_KEYS": str(inside)}, apart_from=[project])
    assert signing_key("journal", {"MLOPS_KEYS": str(tmp_path / "keys")}, apart_from=[project])


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "a.b", "a\n"])
def test_a_name_that_could_leave_the_folder_is_no_name(env: dict[str, str], name: str) -> None:
    with pytest.raises(ValueError):
        signing_key(name, env)


def test_processes_that_start_together_share_one_key(env: dict[str, str]) -> None:
    code = "import os; from tools.core.keys import signing_key; print(signing_key('journal', os.environ).hex())"
    began = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate()[0] for process in began}) == 1
