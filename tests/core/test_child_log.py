"""The log of a child: nothing of a private key and no secret of several lines reaches the disk."""

import os
from pathlib import Path

import pytest

from tools.core import child_log
from tools.core.child_log import MAX_KEY_LINES, CleanLog
from tools.core.redact import Redactor

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC/9\nMzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6\nAQ=="


def logged(path: Path, text: str, redactor: Redactor, size: int = 7) -> str:
    """What a log holds of `text`, written `size` characters at a time."""
    with CleanLog(path / "log", redactor.text) as log:
        for start in range(0, len(text), size):
            os.write(log.write_end, text[start : start + size].encode())
    return (path / "log").read_text()


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
@pytest.mark.parametrize("prefix", ["", "INFO: "])
def test_the_lines_of_a_private_key_are_left_out(tmp_path: Path, kind: str, prefix: str) -> None:
    key = f"-----BEGIN {kind}-----\n{BODY}\n-----END {kind}-----".replace("\n", f"\n{prefix}")
    text = logged(tmp_path, f"before\n{prefix}{key}\nbetween\n{prefix}{key} and more\nafter\n", Redactor({}))
    assert text.split("\n") == [
        "before", f"{prefix}[redacted]", "between", f"{prefix}[redacted]", " and more", "after", "",
    ]  # fmt: skip


def test_a_key_that_is_never_ended_does_not_hide_the_rest_of_the_log(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(MAX_KEY_LINES + 2))
    text = logged(tmp_path, f"-----BEGIN PRIVATE KEY-----\n{lines}", Redactor({}), 1000)
    assert text == f"[redacted]\nline {MAX_KEY_LINES}\nline {MAX_KEY_LINES + 1}\n"


def test_a_key_in_one_line_hides_nothing_after_it(tmp_path: Path) -> None:
    key = "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----"
    assert logged(tmp_path, f"a {key} b\nc\n", Redactor({})) == "a [redacted] b\nc\n"


def test_a_secret_of_two_lines_does_not_stay(tmp_path: Path) -> None:
    secret = "first line qx7canaryA\nsecond qx7canaryB"
    text = logged(tmp_path, f"is {secret}!\n", Redactor({"MULTI_TOKEN": secret}))
    assert text == "is [redacted:MULTI_TOKEN]\n[redacted:MULTI_TOKEN]!\n"


def test_a_secret_in_a_line_that_is_too_long_is_replaced_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_log, "MAX_LINE_BYTES", 64)  # so that two reads are one piece of 128 bytes
    secret = "qx7canary-Kp3v99-Lm0QzT"
    for before in range(1, len(secret)):
        text = logged(tmp_path, "a" * (128 - before) + secret + "b" * 200, Redactor({"X_TOKEN": secret}), 1000)
        assert "\n" in text[:-1] and not any(piece in text for piece in (secret[:6], secret[-6:])), before
