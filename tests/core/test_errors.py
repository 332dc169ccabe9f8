"""What people are told of an error that a library or the system raised."""

import os
import pwd
from pathlib import Path

import pytest

from tools.core.errors import in_words


def test_the_file_of_another_user_is_said_to_be_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me, other = pwd.getpwuid(os.geteuid()).pw_name, os.geteuid() + 54321
    monkeypatch.setattr(os, "geteuid", lambda: other)
    error = PermissionError(13, "Permission denied", str(tmp_path / "state" / "runs"))
    assert in_words(error) == (
        f"{tmp_path}/state/runs: Permission denied ({tmp_path} belongs to {me}, and you are user {other})"
    )


def test_a_file_of_ones_own_that_may_not_be_opened_is_only_named(tmp_path: Path) -> None:
    assert in_words(PermissionError(13, "Permission denied", str(tmp_path))) == f"{tmp_path}: Permission denied"
    assert in_words(FileNotFoundError(2, "No such file or directory", "x")) == "x: No such file or directory"
