"""A page as a real browser leaves it: what its scripts did, if any ran."""

import shutil
import subprocess
from pathlib import Path

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--virtual-time-budget=15000",
)  # fmt: skip


def dom_of(page: Path, folder: Path) -> str:
    """The page's elements after its scripts ran, as HTML; skips where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium here")
    profile = folder / "browser"
    command = [program, *_FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.resolve().as_uri()]
    # The browser tells of missing system services on standard error; only the page counts.
    return subprocess.run(command, capture_output=True, timeout=150, check=True).stdout.decode(errors="replace")
