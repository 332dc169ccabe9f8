"""DVC, Great Expectations, Evidently and synthetic rows over the real libraries."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from crew.sample import write_sample
from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.core.results import Status

REAL = {
    "bike_hourly/bike_hourly_clean.csv.gz": ("cnt", "regression", "dteday"),
    "bank_marketing/bank_marketing.csv.gz": ("y", "binary", ""),
    "elec2/elec2.csv.gz": ("class", "binary", ""),
    "noaa_weather/noaa_weather.csv.gz": ("rain", "binary", ""),
    "telco_churn/telco_churn.csv.gz": ("Churn", "binary", ""),
}


def table(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    amount = rng.normal(50, 10, rows)
    return pd.DataFrame(
        {
            "order": np.arange(rows),
            "amount": amount.round(2),
            "visits": rng.poisson(3, rows),
            "score": rng.normal(0, 1, rows).round(3),
            "city": rng.choice(["Bonn", "Lima", "Oslo"], rows, p=[0.5, 0.3, 0.2]),
            "label": np.where(amount + rng.normal(0, 5, rows) > 55, "yes", "no"),
        }
    )


def save(project: Project, name: str, frame: pd.DataFrame) -> str:
    frame.to_csv(project.root / name, index=False)
    return name


def fails(project: Project, integration: str, action: str, **arguments: Any) -> str:
    result = project.call(integration, action, **arguments)
    assert result.status is Status.FAILED, result
    assert result.error is not None and result.error.kind is ErrorKind.FIXABLE, result
    return result.message


# --- DVC: staging


def test_staging_cuts_reference_80_20_and_current_60_20_20(project: Project) -> None:
    reference, current = save(project, "old.csv", table(500)), save(project, "new.csv", table(1000, seed=1))
    staged = project.ok("dvc", "stage_data", reference=reference, current=current, target="label")
    assert staged["rows"] == {
        "reference": 400,
        "reference_holdout": 100,
        "train": 600,
        "holdout": 200,
        "live": 200,
        "reference_all": 500,
        "current_all": 1000,
    }
    parts = [pd.read_parquet(project.root / staged[name]) for name in ("train", "holdout", "live")]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), pd.read_csv(project.root / current))
    assert set(staged["input_md5"]) == {"old.csv", "new.csv"}


def test_staging_orders_by_time_and_keeps_rows_of_equal_time_in_order(project: Project) -> None:
    frame = table(400)
    frame["day"] = [f"{1 + i % 4}/{1 + i % 28}/24" for i in range(400)]  # month first, unsorted
    source = save(project, "all.csv", frame)
    staged = project.ok("dvc", "stage_data", source=source, time_column="day", target="label", reference_share=0.25)
    before = pd.read_parquet(project.root / staged["reference_all"])
    after = pd.read_parquet(project.root / staged["current_all"])
    both = pd.concat([before, after], ignore_index=True)
    assert len(before) == 100 and before["day"].max() <= after["day"].min()
    assert both["day"].dtype.kind == "M"
    assert both.groupby("day")["order"].apply(lambda order: order.is_monotonic_increasing).all()
    assert staged["time_range"]["current_all"][1].startswith("2024-04-28")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"reference": "good.csv"}, "reference and current"),
        ({"reference": "good.csv", "current": "good.csv", "source": "good.csv"}, "source alone"),
        ({}, "got none"),
        ({"source": "nowhere.csv"}, "missing"),
        ({"source": "empty.csv"}, "empty"),
        ({"source": "tiny.csv"}, "at least 100"),
        ({"source": "good.csv", "time_column": "when"}, "'when'"),
        ({"source": "good.csv", "time_column": "city"}, "no dates"),
        ({"source": "good.csv", "target": "churn"}, "'churn'"),
    ],
)
def test_staging_refuses_bad_input_and_says_why(project: Project, arguments: dict[str, Any], expected: str) -> None:
    save(project, "good.csv", table())
    save(project, "tiny.csv", table(60))
    (project.root / "empty.csv").touch()
    assert expected in fails(project, "dvc", "stage_data", **{"target": "label", **arguments})


# --- DVC: versions


def test_same_content_is_the_same_version_and_is_pushed_once(project: Project) -> None:
    (project.root / "data").mkdir()
    save(project, "data/a.csv", table())
    first = project.ok("dvc", "version_data", paths=["data"], message="first")
    again = project.ok("dvc", "version_data", paths=["data/a.csv"], message="as a file")
    assert first["is_new"] and first["pushed_bytes"] == (project.root / "data/a.csv").stat().st_size
    assert not again["is_new"] and again["version"] == first["version"] and again["pushed_bytes"] == 0
    save(project, "data/b.csv", table(seed=1))
    grown = project.ok("dvc", "version_data", paths=["data"])
    assert grown["is_new"] and grown["version"] != first["version"]
    assert grown["pushed_bytes"] == (project.root / "data/b.csv").stat().st_size, "a.csv is already in the remote"
    versions = project.ok("dvc", "list_versions")["versions"]
    assert [item["version"] for item in versions] == [grown["version"], first["version"]]
    assert versions[1]["note"] == "first"


BACK, USED = ".mlops/runs/test/files/back", ".mlops/runs/test/files/used"


def test_a_version_is_restored_from_the_remote_alone(project: Project) -> None:
    save(project, "a.csv", table())
    made = project.ok("dvc", "version_data", paths=["a.csv"])
    repo = project.ctx.home / "dvc" / "repo"
    shutil.rmtree(repo / ".dvc" / "cache")
    shutil.rmtree(repo / "snapshots" / "snapshot" / made["version"])
    project.ok("dvc", "restore_version", version=made["version"][:10], out=BACK)
    assert (project.root / BACK / "a.csv").read_bytes() == (project.root / "a.csv").read_bytes()


def test_the_version_is_dvcs_own_hash_and_other_dvc_code_reads_it(project: Project) -> None:
    from dvc.api import DVCFileSystem

    save(project, "a.csv", table())
    made = project.ok("dvc", "version_data", paths=["a.csv"])
    assert f"{made['version']}.dir" in (project.root / made["metafile"]).read_text()
    files = DVCFileSystem(str(project.ctx.home / "dvc" / "repo"))
    assert files.read_text(f"snapshots/snapshot/{made['version']}/a.csv") == (project.root / "a.csv").read_text()


def test_restoring_refuses_unknown_versions_and_folders_in_use(project: Project) -> None:
    save(project, "a.csv", table())
    made = project.ok("dvc", "version_data", paths=["a.csv"])
    assert made["version"][:12] in fails(project, "dvc", "restore_version", version="ffff0000", out=BACK)
    (project.root / USED).mkdir(parents=True)
    (project.root / USED / "mine.txt").write_text("mine")
    assert "empty folder" in fails(project, "dvc", "restore_version", version=made["version"], out=USED)
    assert (project.root / USED / "mine.txt").read_text() == "mine"


def test_versions_of_an_empty_store_are_no_data_and_say_where(project: Project) -> None:
    result = project.call("dvc", "list_versions")
    assert result.status is Status.NO_DATA and result.error is not None
    assert "snapshots" in (result.error.tried or "")


def test_files_of_equal_name_and_missing_paths_are_refused(project: Project) -> None:
    for folder in ("one", "two"):
        (project.root / folder).mkdir()
        save(project, f"{folder}/a.csv", table())
    assert "two files" in fails(project, "dvc", "version_data", paths=["one/a.csv", "two/a.csv"])
    assert "neither" in fails(project, "dvc", "version_data", paths=["three"])


def test_a_users_repository_is_used_and_a_folder_that_is_none_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    save(project, "a.csv", table())
    monkeypatch.setenv("DVC_REPO", "mine")
    (project.root / "mine").mkdir()
    result = project.call("dvc", "version_data", paths=["a.csv"])
    assert result.error is not None and result.error.kind is ErrorKind.NEEDS_PERSON and "dvc init" in result.message
    Repo.init(str(project.root / "mine"), no_scm=True).close()
    made = project.ok("dvc", "version_data", paths=["a.csv"], name="churn")
    assert made["remote"] is None and made["pushed_bytes"] == 0
    assert made["metafile"].startswith("mine/snapshots/churn/")
    assert not (project.ctx.home / "dvc").exists()


def test_dvc_prints_nothing(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    save(project, "a.csv", table())
    project.ok("dvc", "version_data", paths=["a.csv"])
    project.call("dvc", "restore_version", version="ffff", out=BACK)
    assert capfd.readouterr() == ("", "")


# --- Great Expectations


def check(project: Project, data: pd.DataFrame, reference: pd.DataFrame | None = None, **more: Any) -> dict[str, Any]:
    save(project, "reference.csv", table() if reference is None else reference)
    save(project, "data.csv", data)
    arguments = {"data": "data.csv", "reference": "reference.csv", "target": "label", "task": "binary", **more}
    return project.ok("great_expectations", "validate", **arguments)


def problems(report: dict[str, Any], severity: str = "critical") -> dict[str | None, str]:
    return {finding["column"]: finding["reason"] for finding in report[severity]}


def test_a_file_like_its_reference_passes_without_findings(project: Project) -> None:
    report = check(project, table(seed=1))
    assert report["passed"] and not report["critical"] and not report["warnings"]
    assert report["bad_rows"] == 0 and report["bad_rows_path"] is None


def test_drift_and_new_values_are_warnings_only(project: Project) -> None:
    data = table(seed=1).assign(amount=lambda frame: frame.amount * 40, visits=3)
    data.loc[:20, "city"] = "Quito"
    report = check(project, data)
    assert report["passed"], report["critical"]
    assert set(problems(report, "warnings")) == {"amount", "visits", "city"}
    city = next(finding for finding in report["warnings"] if finding["column"] == "city")
    assert city["unexpected_count"] == 21 and city["examples"] == ["Quito"]


def broken(name: str) -> pd.DataFrame:
    data = table(seed=1)
    match name:
        case "missing column":
            return data.drop(columns="score")
        case "changed type":
            return data.assign(visits="many")
        case "empty column":
            return data.assign(score=None)
        case "many nulls":
            data.loc[:60, "score"] = None
        case "no label":
            data.loc[:3, "label"] = None
        case "unknown class":
            data.loc[:3, "label"] = "maybe"
        case "one class":
            data["label"] = "yes"
        case "loaded twice":
            return pd.concat([data, data], ignore_index=True)
        case "fractions":
            data["visits"] = data["visits"].astype(float)
            data.loc[:8, "visits"] += 0.5
        case _:
            raise AssertionError(name)
    return data


@pytest.mark.parametrize(
    ("name", "column", "bad_rows"),
    [
        ("missing column", "score", 0),
        ("changed type", "visits", 0),
        ("empty column", "score", 0),
        ("many nulls", "score", 61),
        ("no label", "label", 4),
        ("unknown class", "label", 4),
        ("one class", "label", 0),
        ("loaded twice", None, 400),
        ("fractions", "visits", 9),
    ],
)
def test_a_broken_file_fails_and_names_the_column(
    project: Project, name: str, column: str | None, bad_rows: int
) -> None:
    report = check(project, broken(name))
    assert not report["passed"]
    assert set(problems(report)) == {column}, report["critical"]
    assert report["bad_rows"] == bad_rows


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_few_interpolated_values_among_whole_numbers_are_a_warning(project: Project, rows: int) -> None:
    data = table(seed=1)
    data["visits"] = data["visits"].astype(float)
    data.loc[: rows - 1, "visits"] += 0.5
    report = check(project, data)
    assert report["passed"] and problems(report, "warnings").keys() == {"visits"}
    assert report["warnings"][0]["unexpected_count"] == rows


def test_filler_rows_are_found_and_quarantined(project: Project) -> None:
    data = table(seed=1)
    data.loc[[5, 9], ["amount", "score", "visits"]] = None
    report = check(project, data)
    assert not report["passed"] and "filler rows" in report["critical"][0]["reason"]
    moved = project.ok("great_expectations", "quarantine_rows", data="data.csv", bad_rows_path=report["bad_rows_path"])
    assert (moved["kept_rows"], moved["quarantined_rows"]) == (398, 2)
    quarantined = pd.read_parquet(project.root / moved["quarantined"])
    assert quarantined["order"].tolist() == [5, 9] and quarantined["quarantine_reason"].str.contains("filler").all()
    kept = project.ok(
        "great_expectations", "validate", data=moved["kept"], reference="reference.csv", target="label", task="binary"
    )
    assert kept["passed"], kept["critical"]


def test_the_built_suite_is_a_gx_suite_that_can_be_used_again(project: Project) -> None:
    suite = check(project, table(seed=1))["suite_path"]
    content = json.loads((project.root / suite).read_text())
    assert {"type", "kwargs", "severity"} <= set(content["expectations"][0])
    report = check(project, broken("changed type"), suite=suite)
    assert not report["passed"] and "visits" in problems(report)


def test_a_users_own_suite_replaces_the_built_one(project: Project) -> None:
    own = {
        "name": "own",
        "expectations": [
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "visits", "max_value": 4}}
        ],
    }
    (project.root / "own.json").write_text(json.dumps(own))
    report = check(project, table(seed=1), suite="own.json")
    assert report["expectations"] == 1 and set(problems(report)) == {"visits"}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"expectations": []}', '{"expectations": [{"type": "expect_magic", "kwargs": {}}]}']
)
def test_a_suite_that_is_none_is_refused(project: Project, content: str) -> None:
    (project.root / "own.json").write_text(content)
    save(project, "data.csv", table())
    message = fails(
        project, "great_expectations", "validate", data="data.csv", target="label", task="binary", suite="own.json"
    )
    assert message.startswith("suite:")


def test_quarantine_refuses_the_bad_rows_of_another_file(project: Project) -> None:
    save(project, "data.csv", table(50))
    pd.DataFrame({"row": [399], "reason": ["x"]}).to_parquet(project.root / "bad.parquet")
    message = fails(project, "great_expectations", "quarantine_rows", data="data.csv", bad_rows_path="bad.parquet")
    assert "row 399" in message


def test_the_dirty_bike_file_is_caught_and_clean_after_quarantine(project: Project, real_data: Path) -> None:
    source = str(real_data / "bike_hourly" / "bike_hourly.csv.gz")
    report = project.ok("great_expectations", "validate", data=source, target="cnt", task="regression")
    assert not report["passed"] and report["bad_rows"] == 141
    assert set(problems(report)) >= {"instant"}
    moved = project.ok("great_expectations", "quarantine_rows", data=source, bad_rows_path=report["bad_rows_path"])
    clean = pd.read_csv(real_data / "bike_hourly" / "bike_hourly_clean.csv.gz")
    assert moved["kept_rows"] == len(clean)
    again = project.ok("great_expectations", "validate", data=moved["kept"], target="cnt", task="regression")
    assert again["passed"]


@pytest.mark.parametrize("name", REAL)
def test_sound_real_files_pass_though_they_drift(project: Project, real_data: Path, name: str) -> None:
    target, task, time_column = REAL[name]
    staged = project.ok(
        "dvc", "stage_data", source=str(real_data / name), target=target, time_column=time_column, reference_share=0.2
    )
    report = project.ok(
        "great_expectations", "validate", data=staged["current_all"], reference=staged["reference_all"],
        target=target, task=task,
    )  # fmt: skip
    assert report["passed"], report["critical"]
    if name.startswith("telco"):
        assert "TotalCharges" in problems(report, "warnings")


# --- Evidently


def test_drift_of_the_sample_is_found_and_reported(project: Project) -> None:
    write_sample(project.root)
    files = {"reference": "reference.csv", "current": "current.csv"}
    report = project.ok("evidently", "detect_drift", **files, target="churned", exclude=["region"])
    drifted = {column["column"] for column in report["columns"] if column["drifted"]}
    assert report["dataset_drift"] and report["target_drifted"] is False
    assert {"monthly_charges", "data_usage_gb", "support_tickets", "payment_method"} <= drifted
    assert report["drifted_columns"] == len(drifted)
    assert report["share_drifted"] == pytest.approx(len(drifted) / len(report["columns"]), abs=1e-6)
    assert set(report["skipped"]) == {"timestamp", "region"}
    assert "<html" in (project.root / report["report_path"]).read_text()[:2000].lower()
    json.loads((project.root / report["json_path"]).read_text())
    profile = json.loads((project.root / report["profile_path"]).read_text())
    charges, payment = profile["columns"]["monthly_charges"], profile["columns"]["payment_method"]
    assert len(charges["edges"]) == len(charges["reference"]) + 1 == len(charges["current"]) + 1
    assert sum(charges["reference"]) == profile["reference_rows"] == 6000
    wallet = payment["values"].index("app_wallet")
    assert payment["reference"][wallet] == 0 and payment["current"][wallet] > 500


def test_no_drift_without_drift(project: Project) -> None:
    write_sample(project.root, drift=False)
    report = project.ok("evidently", "detect_drift", reference="reference.csv", current="current.csv", target="churned")
    assert not report["dataset_drift"] and report["drifted_columns"] == 0


def test_drift_share_is_the_limit_and_the_sample_is_stated_and_repeatable(project: Project) -> None:
    save(project, "old.csv", table(2000))
    moved = table(2000, seed=1)
    save(project, "new.csv", moved.assign(amount=moved.amount + 30))
    arguments = {"reference": "old.csv", "current": "new.csv", "sample_rows": 1500, "seed": 3}
    strict = project.ok("evidently", "detect_drift", **arguments, drift_share=0.2)
    lax = project.ok("evidently", "detect_drift", **arguments, drift_share=0.9)
    assert strict["dataset_drift"] and not lax["dataset_drift"]
    assert strict["columns"] == lax["columns"]
    assert (strict["current_rows"], strict["current_sample"], strict["seed"]) == (2000, 1500, 3)
    assert strict["skipped"] == {"order": "counts the rows"}


def test_drift_needs_columns_and_rows(project: Project) -> None:
    save(project, "a.csv", table())
    save(project, "b.csv", table(10))
    save(project, "c.csv", table()[["order"]])
    assert "at least 30" in fails(project, "evidently", "detect_drift", reference="a.csv", current="b.csv")
    assert "no column can be compared" in fails(
        project, "evidently", "detect_drift", reference="c.csv", current="c.csv"
    )
    assert "'x'" in fails(project, "evidently", "detect_drift", reference="a.csv", current="a.csv", exclude=["x"])


def test_summary_names_empty_and_constant_columns(project: Project) -> None:
    once = table(200).assign(unit="kg", gone=None)
    once.loc[:4, "score"] = None
    data = pd.concat([once, once[:10]], ignore_index=True)
    save(project, "a.csv", data)
    report = project.ok("evidently", "summarize_data", data="a.csv")
    assert (report["rows"], report["columns"], report["duplicate_rows"]) == (210, 8, 10)
    assert report["constant_columns"] == ["unit"] and report["empty_columns"] == ["gone"]
    assert set(report["missing_share_by_column"]) == {"score", "gone"}


# --- Synthetic rows


def test_synthetic_rows_keep_columns_types_nulls_and_dependence(project: Project) -> None:
    frame = table(1500).assign(day=pd.date_range("2025-01-01", periods=1500, freq="h").astype(str), note=np.nan)
    frame.loc[frame.sample(frac=0.2, random_state=0).index, "score"] = None
    frame["twice"] = (frame.amount * 2 + np.random.default_rng(1).normal(0, 2, 1500)).round(1)
    save(project, "real.csv", frame)
    made = project.ok("synthetic", "generate_rows", data="real.csv", target="label", rows=2000, seed=5)
    synthetic = pd.read_parquet(project.root / made["path"])
    real = pd.read_csv(project.root / "real.csv")
    assert synthetic.dtypes.to_dict() == real.dtypes.to_dict()
    assert abs(synthetic.score.isna().mean() - 0.2) < 0.03 and synthetic.note.isna().all()
    assert synthetic[["amount", "twice"]].corr().iat[0, 1] > 0.95
    assert set(synthetic.city) == set(real.city)
    pd.to_datetime(synthetic.day, format="%Y-%m-%d %H:%M:%S")
    higher = synthetic.groupby("label").amount.mean()
    assert higher["yes"] > higher["no"] + 8


def test_same_seed_makes_the_same_rows(project: Project) -> None:
    save(project, "real.csv", table())

    def rows(seed: int) -> pd.DataFrame:
        made = project.ok("synthetic", "generate_rows", data="real.csv", target="label", rows=50, seed=seed)
        return pd.read_parquet(project.root / made["path"])

    pd.testing.assert_frame_equal(rows(1), rows(1))
    assert not rows(1).equals(rows(2))


def test_balance_fills_up_the_rare_class(project: Project) -> None:
    frame = table()
    counts = frame.label.value_counts()
    save(project, "real.csv", frame)
    made = project.ok("synthetic", "generate_rows", data="real.csv", target="label", rows=1000, balance=True)
    total = {label: made["class_counts"][label] + counts[label] for label in ("yes", "no")}
    assert sum(made["class_counts"].values()) == 1000
    assert abs(total["yes"] - total["no"]) <= 1
    assert "no classes" in fails(
        project, "synthetic", "generate_rows", data="real.csv", target="amount", rows=10, balance=True
    )


def test_quality_tells_good_rows_from_shuffled_ones_and_from_copies(project: Project) -> None:
    frame = table(1200).assign(twice=lambda data: data.amount * 2 + data.score).drop(columns="order")
    save(project, "real.csv", frame)
    made = project.ok("synthetic", "generate_rows", data="real.csv", target="label", rows=1200)
    rng = np.random.default_rng(0)
    shuffled = pd.DataFrame({name: rng.permutation(frame[name].to_numpy()) for name in frame})
    save(project, "shuffled.csv", shuffled)
    score = {
        name: project.ok("synthetic", "score_quality", real="real.csv", synthetic=path, target="label")
        for name, path in {"good": made["path"], "shuffled": "shuffled.csv", "copy": "real.csv"}.items()
    }
    assert score["good"]["overall"] > 0.95 and score["good"]["private"]
    assert score["shuffled"]["correlation_score"] < score["good"]["correlation_score"] - 0.03
    assert score["shuffled"]["detection_auc"] > score["good"]["detection_auc"] + 0.1
    assert score["copy"]["exact_copy_share"] == 1 and not score["copy"]["private"]


def test_synthetic_rows_of_real_churn_data_are_like_it_and_private(project: Project, real_data: Path) -> None:
    source = str(real_data / "telco_churn" / "telco_churn.csv.gz")
    made = project.ok("synthetic", "generate_rows", data=source, target="Churn", rows=3000)
    score = project.ok("synthetic", "score_quality", real=source, synthetic=made["path"], target="Churn")
    assert score["overall"] > 0.93 and score["private"]


# --- all four


@pytest.mark.parametrize("name", ["dvc", "great_expectations", "evidently", "synthetic"])
def test_health_says_what_was_reached(project: Project, name: str) -> None:
    from tools.registry import load_spec

    spec = load_spec(name)
    assert len(spec.load_backend(spec.resolve_settings({})).health(project.ctx)) > 10
