"""Waiting for a model's process: what a busy machine takes is not the model's."""

from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import pytest

from tools.modeling import model_host
from tools.modeling.model_host import IsolatedModel, ModelHost, ModelLostError
from tools.modeling.own_time import starved


class NoHost:
    def exit_code(self, pid: int, *, kill: bool = False) -> int | None:
        return None


def test_time_that_a_process_waited_for_a_core_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Pipe()
    model = IsolatedModel(cast(ModelHost, NoHost()), 1, cast(Any, ours), "m", tmp_path / "scratch")
    waited = iter([5.0, 65.0])  # at the start, and at the end of the time: it lacked a core for a minute in between

    def told(pid: int) -> float:
        found = next(waited)
        if found > 5.0:
            theirs.send_bytes(b"answer")
        return found

    monkeypatch.setattr(model_host, "starved", told)
    assert model.receive(0.01) == b"answer"
    with theirs:
        model.close()


def test_a_process_that_had_its_core_and_says_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Pipe()
    model = IsolatedModel(cast(ModelHost, NoHost()), 1, cast(Any, ours), "m", tmp_path / "scratch")
    monkeypatch.setattr(model_host, "starved", lambda pid: 5.0)
    with theirs, pytest.raises(ModelLostError, match=r"no answer within 0\.01 s") as lost:
        model.ask(b"rows", 0.01)
    assert lost.value.status == 504 and not model.alive


def test_a_process_that_is_gone_starved_for_nothing() -> None:
    assert starved(2**22 + 1) == 0.0
