"""What a call may read, and where it may write."""

# ruff: noqa: E501

import os
import socket
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from tools.core.arguments import FileAndColumn, ModelRef, ReadPath, WritePath, roles
from tools.core.contract import Action, Args, Data
from tools.core.dispatch import check_paths
from tools.core.errors import FixableError
from tools.core.model_ref import parse_model_ref
from tools.core.names import is_secret_file
from tools.core.roots import DATA_ROOTS, Roots, roots_from, roots_of_data
from tools.registry import INTEGRATIONS, load_spec

RUN = "20261101-101010-abcd"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project with data, state and secrets, and something outside."""
    project = tmp_path / "project"
    for name in (
        "data/a.csv", "data/deep/b.parquet", "data/.env", "data/server.key", "config/policy.yaml", "config/suite.json",
        "top.csv", ".env", ".git/config", "trainer/__init__.py", "trainer/data/c.csv",
        f".mlops/runs/{RUN}/files/scores.parquet", f".mlops/runs/{RUN}/journal.jsonl", ".mlops/approvals/1.json",
        ".mlops/runs/other/files/drift/x.json", ".mlops/mlflow/mlflow.db", ".mlops/ab_tests/t/units.parquet",
        ".mlops/ab_tests/t/test.json", ".mlops/ab_tests/t/.lock", ".mlops/ab_tests/t/outcomes/000001.parquet",
    ):  # fmt: skip
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("outside")
    return project


def roots(project: Path, *data: str) -> Roots:
    return Roots(project, project / ".mlops", RUN, tuple(project / value for value in data))


READABLE = [
    "data/a.csv", "./data/a.csv", "data/../data/a.csv", "data/deep/b.parquet", "data/deep", "data/missing.csv",
    f".mlops/runs/{RUN}/files/scores.parquet", ".mlops/runs/other/files/drift/x.json",
    ".mlops/ab_tests/t/units.parquet", ".mlops/ab_tests/t/test.json",
]  # fmt: skip
UNREADABLE = [
    "/etc/passwd", "/proc/self/environ", "/dev/zero", "../outside/secret.csv", "~/x.csv", "~root/x", "", " ",
    "data/a.csv\0", "data/a\n.csv", "http://127.0.0.1:9/x.csv", "https://h/x", "file:///etc/passwd", "file:data/a.csv",
    "s3://b/x.parquet", "gs://b/x", "models:/m/1", "simplecache::s3://b/x", "data:text/csv,a", "//host/share/x", "\\\\host\\x",
    ".env", "data/.env", "data/server.key", ".git/config", "config/policy.yaml", "CONFIG/policy.yaml", ".mlops/approvals/1.json",
    f".mlops/runs/{RUN}/journal.jsonl", f".mlops/runs/{RUN}/files/../journal.jsonl", ".mlops/mlflow/mlflow.db",
    ".mlops/ab_tests/t/.lock", ".mlops/ab_tests/t/outcomes/000001.parquet", ".mlops", ".", "data/../.env", "x" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", READABLE)
def test_data_run_files_and_what_stores_hand_out_are_read(place: Path, value: str) -> None:
    for made in (roots(place), roots(place, "data")):
        found = made.read(value)
        assert found == (place / value).resolve()
        assert made.read(str(found)) == found


@pytest.mark.parametrize("value", UNREADABLE)
def test_nothing_else_is_read(place: Path, value: str) -> None:
    for made in (roots(place), roots(place, "data")):
        with pytest.raises(FixableError):
            made.read(value)
        if value.startswith((".", "data/", "config")):
            with pytest.raises(FixableError):
                made.read(str(place / value))


@pytest.mark.parametrize(
    "value",
    ["n" * 256 + ".csv", "é" * 200, f"data/{'n' * 300}/a.csv", "data/" + "n/" * 2100, f"data/{'n' * 300}/../a.csv"],
)
def test_a_name_that_no_file_system_takes_is_refused_in_words(place: Path, value: str) -> None:
    made = roots(place, "data")
    for path in (value, str(place / value), f".mlops/runs/{RUN}/files/{value}"):
        for look in (made.read, made.write):
            with pytest.raises(FixableError, match="at most 255 bytes"):
                look(path)


def test_names_and_paths_of_just_bearable_length_are_taken(place: Path) -> None:
    longest = "n" * 251 + ".csv"
    assert roots(place).read(f"data/{longest}").name == longest
    assert roots(place).write(f".mlops/runs/{RUN}/files/{longest}").name == longest


def test_what_the_system_says_of_a_path_is_a_refusal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", fails)
    for look, value in ((roots(place).read, "data/a.csv"), (roots(place, "data").write, "data/a.csv")):
        with pytest.raises(FixableError, match=r"cannot be looked at: .*Permission denied"):
            look(value)


@pytest.mark.parametrize(
    "odd", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x85", "\u2028", "\u3164", "\u00a0", "\U000e0041"]
)
def test_no_name_is_written_that_shows_as_another(place: Path, odd: str) -> None:
    made = roots(place, "data")
    for value in (f"data/a{odd}vsc.exe", f"data/{odd}new/b", f".mlops/runs/{RUN}/files/a{odd}"):
        with pytest.raises(FixableError, match="show as nothing, as others or in another order"):
            made.write(value)
    assert made.write("data/Größe_数据_й")  # letters of any language are


def test_with_a_goal_only_its_data_folders_are_read(place: Path) -> None:
    assert roots(place).read("top.csv")
    with pytest.raises(FixableError, match="files below data, and the files of runs"):
        roots(place, "data").read("top.csv")
    with pytest.raises(FixableError):
        roots(place, "data").read("trainer/data/c.csv")


def test_links_are_followed_before_anything_is_decided(place: Path) -> None:
    outside = place.parent / "outside"
    (place / "data/link.csv").symlink_to(outside / "secret.csv")
    (place / "data/parent").symlink_to(outside)
    (place / "data/env.csv").symlink_to(place / ".env")
    (place / "data/state.csv").symlink_to(place / ".mlops/approvals/1.json")
    (place / "data/loop").symlink_to(place / "data/loop")
    (place / "data/same.csv").symlink_to(place / "data/a.csv")
    for value in ("data/link.csv", "data/parent/secret.csv", "data/env.csv", "data/state.csv"):
        with pytest.raises(FixableError):
            roots(place).read(value)
    assert roots(place).read("data/same.csv") == place.resolve() / "data/a.csv"
    with pytest.raises(FixableError, match="in a folder that was named"):
        roots(place).read("data")  # a folder stands for all that it holds
    assert not roots(place).read("data/loop").is_file()


def test_a_folder_brings_no_hidden_file_and_no_secret(place: Path) -> None:
    with pytest.raises(FixableError, match="named like a secret"):
        roots(place).read("data")
    (place / "data/server.key").unlink()
    made = roots(place)
    folder = made.read("data")
    assert [path.name for path in made.files_below(folder)] == ["a.csv", "b.parquet"]


def test_devices_and_pipes_are_no_files(place: Path) -> None:
    os.mkfifo(place / "data/pipe.csv")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(place / "data")  # a socket's name is short
        try:
            listener.bind("door.csv")
        finally:
            os.chdir(here)
        for name in ("pipe.csv", "door.csv"):
            with pytest.raises(FixableError, match="a device, a pipe or a socket"):
                roots(place).read(f"data/{name}")


def test_a_state_folder_elsewhere_or_behind_a_link_works(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "state"
    (place / ".mlops").rename(elsewhere)
    (place / ".mlops").symlink_to(elsewhere)
    behind = Roots(place, place / ".mlops", RUN, (place / "data",))
    apart = Roots(place, elsewhere, RUN, (place / "data",))
    for made in (behind, apart):
        scores = elsewhere.resolve() / f"runs/{RUN}/files/scores.parquet"
        assert made.read(str(scores)) == scores
        assert made.write(str(scores.with_name("new"))) == scores.with_name("new")
        assert made.read(f".mlops/runs/{RUN}/files/scores.parquet") == scores
        assert made.write(f".mlops/runs/{RUN}/files/new") == scores.with_name("new")
        for value in (".mlops/approvals/1.json", str(elsewhere / "approvals/1.json")):
            with pytest.raises(FixableError):
                made.read(value)
            with pytest.raises(FixableError):
                made.write(f"{value}.x")


def test_a_link_in_the_state_folder_leads_nowhere_else(place: Path) -> None:
    files = place / f".mlops/runs/{RUN}/files"
    (files / "out").symlink_to(place.parent / "outside")
    (files / "policy").symlink_to(place / "config")
    for value in ("out/secret.csv", "policy/policy.yaml"):
        with pytest.raises(FixableError):
            roots(place).read(f".mlops/runs/{RUN}/files/{value}")
    for value in ("out/new", "policy/new.yaml", "out"):
        with pytest.raises(FixableError):
            roots(place, "data").write(f".mlops/runs/{RUN}/files/{value}")


def test_writes_end_in_the_runs_files_or_below_a_data_folder(place: Path) -> None:
    made = roots(place, "data")
    assert made.write("data/restored") == place.resolve() / "data/restored"
    assert made.write("data/deep/restored/x") == place.resolve() / "data/deep/restored/x"
    assert made.write(f".mlops/runs/{RUN}/files/back") == made.run_files / "back"
    (place / "data/empty").mkdir()
    assert made.write("data/empty")


@pytest.mark.parametrize(
    "value",
    [
        "restored", ".", "my_trainer", "data", "data/a.csv", "data/deep", "config/x", "trainer/new", "data/.hidden", "data/x.key", "data/x.py",
        ".mlops/approvals", ".mlops/approvals/2.json", ".mlops/runs/20991231-000000-aaaa", ".mlops/runs/other/files/x",
        f".mlops/runs/{RUN}/journal.jsonl", f".mlops/runs/{RUN}/x", ".mlops/ab_tests/t/x", "/tmp/x", "../outside/made", "~/made",
        "http://h/x", "data/../restored", "data/a.csv/x",
    ],
)  # fmt: skip
def test_nothing_is_written_elsewhere(place: Path, value: str) -> None:
    with pytest.raises(FixableError):
        roots(place, "data").write(value)


def test_without_a_goal_only_the_runs_files_are_written(place: Path) -> None:
    assert roots(place).write(f".mlops/runs/{RUN}/files/back")
    for value in ("data/restored", "restored"):
        with pytest.raises(FixableError, match=r"a new name below \.mlops/runs"):
            roots(place).write(value)


def test_no_write_goes_through_a_link_or_into_code(place: Path) -> None:
    (place / "data/inner").symlink_to(place / "data/deep")
    (place / "lnk").symlink_to(place.parent / "outside")
    for value in ("data/inner/x", "lnk/made"):
        with pytest.raises(FixableError):
            roots(place, "data").write(value)
    with pytest.raises(FixableError, match="Python imports code"):
        roots(place, "trainer/data").write("trainer/data/new")


def test_a_goals_files_make_its_roots(place: Path, tmp_path: Path) -> None:
    (tmp_path / "market").mkdir()
    (tmp_path / "market/x.csv").write_text("x")
    (tmp_path / "y.csv").write_text("y")
    named = ["data/a.csv", "top.csv", "config/suite.json", "../market/x.csv", "../y.csv"]
    made = Roots(place, place / ".mlops", RUN, roots_of_data(place, place / ".mlops", named, ["trainer/data"]))
    for value in (*named, "data/deep/b.parquet", "trainer/data/c.csv", str(tmp_path / "market/z.csv")):
        made.read(value)
    for value in (
        "config/policy.yaml",
        ".env",
        "other.csv",
        "../z.csv",
        "../outside/secret.csv",
        "trainer/__init__.py",
    ):
        with pytest.raises(FixableError):
            made.read(value)
    for folder in (".", "/", "..", ".mlops", ".mlops/approvals"):
        with pytest.raises(FixableError, match="more than data"):
            roots_of_data(place, place / ".mlops", [], [folder])


def test_a_server_of_its_own_takes_the_roots_it_is_told(place: Path) -> None:
    told = roots_from(
        {DATA_ROOTS: os.pathsep.join(["data", str(place.parent / "outside")])}, place, place / ".mlops", RUN
    )
    assert told.read("data/a.csv") and told.read("../outside/secret.csv")
    with pytest.raises(FixableError):
        told.read("top.csv")
    assert roots_from({}, place, place / ".mlops", RUN).read("top.csv")


def test_a_run_id_is_a_name(place: Path) -> None:
    for bad in ("../../../tmp/evil", "a/b", "..", "", "x" * 200):
        with pytest.raises(FixableError):
            roots(place).of_run(bad)


def test_names_of_secrets() -> None:
    for name in (".env", ".env.local", "prod.env", "server.pem", "A.KEY", "id_rsa", "id_ed25519.pub", "credentials", "aws_credentials.json",
                 "client_secret_1.json", "service-account.json", ".netrc", "kubeconfig", "store.p12"):  # fmt: skip
        assert is_secret_file(name), name
    for name in ("a.csv", "keys.csv", "environment.parquet", "monkey.csv", "customer_credentials_count.csv", "turkey"):
        assert not is_secret_file(name), name


# --- the arguments of every action


class Marked(Args):
    one: ReadPath
    many: list[ReadPath] = Field(default_factory=list)
    maybe: ReadPath | None = None
    out: WritePath = ""
    model: ModelRef = ""
    times: FileAndColumn = ""


ACTION = Action("do", "Does.", Marked, Data)


def test_marked_arguments_are_checked_wherever_they_stand(place: Path) -> None:
    made = roots(place, "data")
    check_paths(ACTION, Marked(one="data/a.csv", many=["data/a.csv"], maybe=None, times="data/a.csv:when"), made)
    for wrong in (
        {"one": ".env"},
        {"one": "data/a.csv", "many": ["data/a.csv", "/etc/passwd"]},
        {"one": "data/a.csv", "maybe": "config/policy.yaml"},
        {"one": "data/a.csv", "out": "restored"},
        {"one": "data/a.csv", "model": "/tmp/model"},
        {"one": "data/a.csv", "times": "/etc/passwd:x"},
    ):
        with pytest.raises(FixableError, match=f"do: {list(wrong)[-1]}: "):
            check_paths(ACTION, Marked.model_validate(wrong), made)


def test_every_argument_that_looks_like_a_path_or_a_model_is_marked() -> None:
    """By its words: what an action says is a file, CSV, Parquet, JSON of another action, or a model."""
    words = (
        "csv",
        "parquet",
        "file",
        "path",
        "folder",
        "evidence",
        "scores",
        "trials json",
        "models:/",
        "model to score",
    )
    # These take the content itself, or a count, or a name.
    free = {"optuna.ask.space", "optuna.search.constraints", "hyperopt.tune.constraints", "ray.tune.constraints", "hyperopt.tune.config", "ray.tune.config",
            "dvc.stage_data.name", "dvc.stage_data.read", "evidently.detect_drift.sample_rows", "mlflow.promote_version.reason",
            "mlflow.retire_version.reason", "serving.promote_canary.keep_former"}  # fmt: skip
    unmarked: list[str] = []
    for name in INTEGRATIONS:
        for action in load_spec(name).actions:
            for argument, info in action.args.model_fields.items():
                text = (info.description or "").lower()
                if argument != "digest" and any(word in text for word in words) and not list(roles(info)):
                    unmarked.append(f"{name}.{action.name}.{argument}")
    assert set(unmarked) <= free, sorted(set(unmarked) - free)


@pytest.mark.parametrize(
    "value",
    ["models:/churn/2", "models:/churn@champion", "models:/my model (v2)/17", "models:/m-" + "a1" * 16, "runs:/" + "0f" * 16 + "/model",
     "runs:/" + "0f" * 16 + "/a/b"],
)  # fmt: skip
def test_a_model_of_the_store_is_named(value: str) -> None:
    assert parse_model_ref(value).text == value


@pytest.mark.parametrize(
    "value",
    ["", "churn", "/tmp/evil", "./evil", "file:///tmp/evil", "http://h/evil", "https://h/evil", "s3://b/m", "gs://b/m", "mlflow-artifacts:/0/m",
     "mlflow-artifacts://evil:5000/0/m", "dbfs:/m", "models:/../x/1", "models:/a/../1", "models://evil/churn/1", "models:/churn/latest", "models:/churn/0",
     "models:/churn", "models:/churn/1/extra", "models:/churn/1?x=http://h", "models:/churn/1#x", "models:/%2e%2e/1", "models:/churn/1\n",
     "runs:/abc/model", "runs:/" + "0f" * 16 + "/../x", "runs:/" + "0f" * 16 + "/", "runs:/" + "0f" * 16 + "/.hidden", "runs://h/" + "0f" * 16 + "/m",
     "0f" * 16, "models:/" + "a" * 400 + "/1"],
)  # fmt: skip
def test_no_other_address_names_a_model(value: str) -> None:
    with pytest.raises(FixableError, match="names no model of the configured store; valid: models:/NAME/VERSION"):
        parse_model_ref(value)


def test_a_mark_is_seen_in_lists_and_beside_none() -> None:
    class Many(BaseModel):
        a: list[ReadPath] | None = None

    assert [role.__class__.__name__ for role in roles(Many.model_fields["a"])] == ["PathRole"]
