"""A verdict says, as hashes, which models, rows and evidence it judged; production and registry take only those."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.judged import answered, scored
from tools.integrations.mlflow import models as models_module
from tools.integrations.mlflow.models import Models
from tools.integrations.serving.router import RefusedError, Router
from tools.integrations.serving.state import ModelRef, load_state
from tools.integrations.serving.worker import ModelLoadError, ModelSource
from tools.modeling.data import MODEL_DIGEST, ROWS_DIGEST, file_digest, write_table
from tools.modeling.model_host import content_digest

CHAMPION, CHALLENGER = ModelRef("models:/churn/1", "1"), ModelRef("models:/churn/2", "2")


class Loaded:
    """A model that is loaded; its digest is what its URI says."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    def kill(self) -> None:
        """Nothing runs."""


class Source:
    """Loads models at once, and holds them against the digest that was judged, as the real one does."""

    def start(self, model: ModelRef) -> Loaded:
        digest = f"digest of {model.uri}"
        if model.digest and model.digest != digest:
            raise ModelLoadError("not the files that were judged")
        return Loaded(digest)


def play(folder: Path, steps: Any) -> Any:
    async def run() -> Any:
        return await steps(Router(folder, cast("ModelSource", Source()), 1.0))

    return asyncio.run(run())


def test_a_canary_that_is_not_the_judged_model_is_not_promoted(tmp_path: Path) -> None:
    async def steps(router: Router) -> None:
        await router.deploy("churn", CHAMPION)
        await router.start_canary(CHALLENGER, 5.0, 0)
        with pytest.raises(RefusedError, match="is not the model that was judged"):
            await router.promote("2", keep_former=False, digest="digest of models:/other/2")
        assert await router.promote("2", keep_former=False, digest="digest of models:/churn/2")
        with pytest.raises(RefusedError, match="is not the model that was judged"):
            await router.promote("2", keep_former=False, digest="digest of models:/other/2")

    play(tmp_path, steps)
    state = load_state(tmp_path)
    assert state.champion is not None and state.champion.digest == "digest of models:/churn/2"


@pytest.mark.parametrize("model", [CHAMPION, CHALLENGER])
def test_a_model_whose_files_are_others_than_those_judged_is_not_served(tmp_path: Path, model: ModelRef) -> None:
    foreign = ModelRef(model.uri, model.version, digest="digest of something else")

    async def steps(router: Router) -> None:
        if model is CHALLENGER:
            await router.deploy("churn", CHAMPION)
        with pytest.raises((ModelLoadError, RefusedError)):
            await (router.deploy("churn", foreign) if model is CHAMPION else router.start_canary(foreign, 5.0, 0))

    play(tmp_path, steps)
    state = load_state(tmp_path)
    assert (state.champion, state.canary) == ((None, None) if model is CHAMPION else (CHAMPION, None))


def test_the_registry_takes_only_the_version_whose_files_were_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "model"
    files.mkdir()
    (files / "MLmodel").write_text("flavors: {}\n")
    digest, size = content_digest(files)
    assert size == len("flavors: {}\n")
    monkeypatch.setattr(models_module, "fetch_model", lambda *_args, **_options: files)
    store: Any = type("Store", (), {"client": lambda self: None, "tracking_uri": "", "registry_uri": ""})()
    ctx = CallContext(project=tmp_path, home=tmp_path / ".mlops", run_id="run")
    Models().check(store, "models:/churn/2", digest, ctx)
    (files / "MLmodel").write_text("flavors: {other: {}}\n")
    with pytest.raises(FixableError, match="is not the model that was judged"):
        Models().check(store, "models:/churn/2", digest, ctx)


def test_scores_say_of_which_model_and_rows_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"loss": [0.1]})
    frame.attrs |= {MODEL_DIGEST: "m", ROWS_DIGEST: "r"}
    write_table(frame, tmp_path / "scores.parquet")
    found = scored(tmp_path / "scores.parquet")
    assert (found.model, found.rows) == ("m", "r")
    write_table(pd.DataFrame({"loss": [0.1]}), tmp_path / "foreign.parquet")
    assert scored(tmp_path / "foreign.parquet").model is None


def test_evidence_of_two_challengers_is_not_judged_as_one(tmp_path: Path) -> None:
    path = tmp_path / "evidence.parquet"
    rows = pd.DataFrame({"champion_digest": ["a", "a"], "challenger_digest": ["b", "b"]})
    write_table(rows, path)
    found = answered(path)
    assert (found.champion, found.challenger, found.evidence) == ("a", "b", file_digest(path))
    write_table(rows.assign(challenger_digest=["b", "c"]), path)
    with pytest.raises(FixableError, match="2 different models answered as challenger"):
        answered(path)
