"""Who acts, by the operating system."""

import os
import pwd
from pathlib import Path

import pytest

from tools.core import person as module
from tools.core.person import person


@pytest.fixture
def as_uid(monkeypatch: pytest.MonkeyPatch) -> "object":
    def become(uid: int, login: str = str(2**32 - 1)) -> None:
        monkeypatch.setattr(os, "getuid", lambda: uid)
        monkeypatch.setattr(Path, "read_text", lambda self, **_: login)

    return become


def test_no_variable_of_the_environment_names_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "the.cfo")
    assert pwd.getpwuid(os.getuid()).pw_name in person() and "cfo" not in person()


def test_whoever_called_sudo_is_named_but_only_root_is_believed(as_uid, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "_name", lambda uid: f"user{uid}")
    monkeypatch.setenv("SUDO_UID", "1001")
    as_uid(0)
    assert person() == "user0 (user1001)"
    as_uid(1000)
    assert person() == "user1000"


def test_the_login_behind_another_user_is_named(as_uid, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "_name", lambda uid: f"user{uid}")
    as_uid(33, login="1001")
    assert person() == "user33 (user1001)"
    as_uid(1001, login="1001")
    assert person() == "user1001"


def test_a_user_without_a_name_is_a_number(as_uid) -> None:  # type: ignore[no-untyped-def]
    as_uid(4_123_456_789)
    assert person() == "uid 4123456789"
