"""Tables from files and back, labels of any type, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers.mixed_rows import features_and_target, mixed_rows
from tools.core.errors import FixableError
from tools.modeling.data import (
    as_text,
    load_xy,
    positive_label,
    read_table,
    write_table,
)
from tools.modeling.metrics import get_metric, score
from tools.modeling.models import (
    default_config,
)
from tools.modeling.predictor import Predictions, SklearnPredictor
from tools.modeling.training import fit


def test_labels_are_the_same_whatever_type_they_arrive_in() -> None:
    assert as_text([1, 2.0, "3 ", None, np.nan]).tolist() == ["1", "2", "3", "", ""]
    assert as_text([True, False]).tolist() == as_text(["True", "False"]).tolist()
    predictions = Predictions(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    for truth in ([0, 1], [0.0, 1.0], ["0", "1"]):
        assert score(get_metric("roc_auc", "binary"), truth, predictions, "binary") == 1.0


@pytest.mark.parametrize(
    ("labels", "positive"),
    [(["no", "yes"], "yes"), ([1, 0], 1), ([True, False], True), (["UP", "DOWN"], "UP"), (["yes", "no", "yes"], "yes")],
)
def test_the_positive_label_is_the_last_of_the_sorted_ones(labels: list[object], positive: object) -> None:
    assert positive_label(labels) == positive
    X, y = features_and_target("binary")
    predictions = SklearnPredictor(fit(default_config("binary", "linear"), X, y, "binary", 0)).predict(X)
    assert predictions.positive_probability is not None
    assert predictions.positive_probability[y == "yes"].mean() > predictions.positive_probability[y == "no"].mean()


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_a_table_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    frame = mixed_rows(30).drop(columns=["seen"])
    path = tmp_path / name
    if name.endswith("parquet"):
        write_table(frame, path)
    else:
        frame.to_csv(path, index=False)
    assert list(read_table(path).columns) == list(frame.columns)
    assert read_table(path)["visits"].tolist() == frame["visits"].tolist()


def test_files_that_cannot_be_read_say_what_is_valid(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")
    (tmp_path / "broken.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3,4\n")
    (tmp_path / "notes.txt").write_text("a")
    (tmp_path / "lfs.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")
    (tmp_path / "page.csv").write_text("<!DOCTYPE html><html><body>Sign in</body></html>\n")
    for name, words in {
        "absent.csv": "missing",
        "empty.csv": "the file is empty",
        "header.csv": "no rows",
        "broken.parquet": "valid kinds",
        "broken.csv.gz": "valid kinds",
        "ragged.csv": "names 2 columns, but 1 of 2 records have 4 fields",
        "notes.txt": "unknown kind",
        "lfs.csv": "git lfs pull",
        "page.csv": "a page of HTML or XML",
        ".": "a folder",
    }.items():
        with pytest.raises(FixableError, match=words):
            read_table(tmp_path / name)


def test_a_full_disk_leaves_the_old_table_and_no_scraps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.parquet"
    write_table(mixed_rows(10), path)

    def full(self: pd.DataFrame, *args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space"):
        write_table(mixed_rows(20), path)
    assert len(read_table(path)) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_unknown_columns_are_named_beside_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    mixed_rows(30).to_parquet(path)
    with pytest.raises(FixableError, match=r"no column 'churn'; columns: customer, amount"):
        load_xy([path], "churn")
    with pytest.raises(FixableError, match="no column 'typo'"):
        load_xy([path], "binary", ["typo"])
    with pytest.raises(FixableError, match="cannot be in the drop list"):
        load_xy([path], "binary", ["binary"])
