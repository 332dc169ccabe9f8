"""Models as code of others: what a hostile one can do from where it is loaded, and how each way to fail is told."""

# ruff: noqa: E501

import http.server
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tools.core.errors import FinalError, OutsideStoreError
from tools.core.isolation import available
from tools.modeling import model_host
from tools.modeling.model_host import ModelHost, ModelPool
from tools.modeling.model_process import pack
from tools.modeling.model_store import absolute_address, fetch_model, store_credentials
from tools.modeling.predictor import Predictions

pytestmark = [
    pytest.mark.timeout(600),  # importing MLflow takes minutes on a busy machine
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
isolated = pytest.mark.skipif(
    not (available().landlock and available().network), reason="this kernel does not bound files and network"
)
ROWS = pd.DataFrame({"a": [1.0, 2.0, 3.0]})

PROBE = """
(lambda ns: exec('''
import os, socket, subprocess
def tried(step):
    try:
        return "done " + str(step())[:200]
    except BaseException as error:
        return "refused " + type(error).__name__
def connect():
    with socket.create_connection(("127.0.0.1", PORT), 2):
        return "connected"
FOUND = [
    tried(lambda: open(FLAG, "w").write("x")),
    tried(lambda: open(SECRET).read()),
    tried(connect),
    tried(lambda: open("/proc/" + str(os.getppid()) + "/environ").read()),
    tried(lambda: subprocess.run(["sh", "-c", "echo x > " + FLAG], check=True)),
    tried(lambda: open(STATE, "a")),
    " ".join(sorted(os.environ)),
    open("/proc/self/environ").read() if os.path.exists("/proc/self/environ") else "",
]
class Model:
    def predict(self, X):
        return [FOUND[int(i)] for i in X["a"]]
''', ns) or ns["Model"]())({"FLAG": %r, "SECRET": %r, "STATE": %r, "PORT": %d})
"""


class Evaluated:
    """Pickles as the evaluation of some code, which is how a hostile model runs its own."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


def model_folder(folder: Path, code: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.pkl").write_bytes(pickle.dumps(Evaluated(code)))
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: model.pkl\n    predict_fn: predict\n"
        "    python_version: 3.11.0\n  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.5.0\n"
        "    serialization_format: pickle\n"
    )
    return folder


def answering(expression: str) -> str:
    """Code of a model whose predict(self, X) is the expression."""
    return f"type('Model', (), {{'predict': lambda self, X: {expression}}})()"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("project")
    (place / ".env").write_text("OPENAI_API_KEY=qx7canaryEnv")
    (place / ".mlops/approvals").mkdir(parents=True)
    (place / ".mlops/approvals/key").write_text("qx7canaryKey")
    return place


@pytest.fixture(scope="module")
def host(project: Path) -> Iterator[ModelHost]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_TOKEN", "qx7canaryToken")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "qx7canaryAws")
        made = ModelHost(project, closed=[project / ".mlops"])
        made.warm()
    yield made
    made.close()


@isolated
def test_a_hostile_model_finds_no_secret_no_network_and_nothing_to_write_to(
    host: ModelHost, project: Path, tmp_path: Path
) -> None:
    served: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.append(self.path)

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    try:
        flag, key = tmp_path / "pwned", project / ".mlops/approvals/key"
        code = PROBE % (str(flag), str(project / ".env"), str(key), server.server_address[1])
        model = host.start(model_folder(tmp_path / "evil", code), "evil")
        assert model.not_isolated == ()
        found = model.predict(pd.DataFrame({"a": range(8)})).values.tolist()
        model.close()
    finally:
        server.server_close()
    assert [answer.split()[0] for answer in found[:6]] == ["refused"] * 6, found
    assert not flag.exists() and key.read_text() == "qx7canaryKey"
    assert "TOKEN" not in found[6] and "AWS" not in found[6]
    assert "qx7canary" not in "".join(found)
    assert served == []


@isolated
def test_code_that_runs_at_loading_is_bounded_too(host: ModelHost, tmp_path: Path) -> None:
    flag = tmp_path / "pwned"
    code = f"__import__('os').system('id > {flag}') and (_ for _ in ()).throw(ValueError('the model is damaged'))"
    with pytest.raises(FinalError, match="cannot load the model evil: the model is damaged"):
        host.start(model_folder(tmp_path / "evil", code), "evil")
    assert not flag.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (answering("__import__('os')._exit(7)"), r"process ended \(exit code 7\)"),
        (answering("[float('nan')] * len(X)"), "answers NaN or infinity for 3 of 3 rows"),
        (answering("[1.0]"), "does not answer with one prediction a row"),
        (answering("X['absent']"), "does not predict these rows: .*absent"),
        (answering("__import__('no_such_library')"), "it needs the module no_such_library, which is not installed"),
    ],
)
def test_each_way_to_fail_is_one_clear_error(host: ModelHost, tmp_path: Path, code: str, words: str) -> None:
    model = host.start(model_folder(tmp_path / "odd", code), "models:/odd/1")
    try:
        with pytest.raises(FinalError, match=words) as failed:
            model.predict(ROWS)
        assert "models:/odd/1" in failed.value.message and "Traceback" not in failed.value.message
    finally:
        model.close()


def test_a_missing_library_a_hang_and_a_crash_at_loading_are_told(
    host: ModelHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FinalError, match="it needs the module absent_library, which is not installed here"):
        host.start(model_folder(tmp_path / "a", "__import__('absent_library')"), "m")
    with pytest.raises(FinalError, match=r"the model's process ended \(exit code 9\)"):
        host.start(model_folder(tmp_path / "b", "__import__('os')._exit(9)"), "m")
    with pytest.raises(FinalError, match="no answer within 1 s"):
        host.start(model_folder(tmp_path / "c", "__import__('time').sleep(600)"), "m", timeout_s=1)
    model = host.start(model_folder(tmp_path / "d", answering("__import__('time').sleep(600)")), "m")
    monkeypatch.setattr(model_host, "PREDICT_TIMEOUT_S", 1.0)
    with pytest.raises(FinalError, match="no answer within 1 s"):
        model.predict(ROWS)
    assert not model.alive


def test_a_call_that_is_stopped_ends_the_model_that_it_waits_for(host: ModelHost, tmp_path: Path) -> None:
    class Stopped(BaseException):
        pass

    def check() -> None:
        raise Stopped

    model = host.start(model_folder(tmp_path / "slow", answering("__import__('time').sleep(600)")), "slow")
    with pytest.raises(Stopped):
        model.predict(ROWS, check)
    assert not model.alive
    assert host.exit_code(model.pid) is None, "it was ended and is forgotten"


def test_a_model_leaves_no_folder_behind_where_nobody_closed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever used it may have been killed; its process ends with the one it was forked from, which tidies up."""
    places = tmp_path / "temporary"
    places.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(places))
    host = ModelHost()
    host.start(model_folder(tmp_path / "m", answering("[1, 2, 3]")), "m")
    assert len(list(places.iterdir())) == 1
    host.close()
    assert list(places.iterdir()) == []


def test_labels_numbers_and_probabilities_come_back_as_they_were(host: ModelHost, tmp_path: Path) -> None:
    for expression, expected in (
        ("['a', 'b', 'c'][:len(X)]", ["a", "b", "c"]),
        ("[True, False, True][:len(X)]", [True, False, True]),
        ("[1, 2, 3][:len(X)]", [1, 2, 3]),
        ("(X['a'] * 0.1).tolist()", [0.1, 0.2, 0.1 * 3]),
    ):
        model = host.start(model_folder(tmp_path / str(len(list(tmp_path.iterdir()))), answering(expression)), "m")
        assert model.predict(ROWS).values.tolist() == expected
        assert len(model.latencies_ms(ROWS)) == 3
        model.close()


# Computes 20 ms for an answer, however long it has to wait for a core meanwhile.
COMPUTES = """
(sum(0 for _ in iter(lambda t=[0], now=__import__('time').thread_time:
    now() < t[0] if t[0] else t.__setitem__(0, now() + 0.02) or True, False)), [1.0] * len(X))[1]
""".replace("\n", "")


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="nobody counts here how long a thread waits")
def test_latencies_are_the_models_own_on_a_core_that_others_keep_busy(host: ModelHost, tmp_path: Path) -> None:
    model = host.start(model_folder(tmp_path / "m", answering(COMPUTES)), "m")
    core = min(os.sched_getaffinity(0))
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        for pid in (model.pid, *(other.pid for other in others)):
            os.sched_setaffinity(pid, {core})
        started = time.perf_counter()
        own = model.latencies_ms(ROWS)
        passed_ms = 1000 * (time.perf_counter() - started)
    finally:
        for other in others:
            other.kill()
            other.wait()
        model.close()
    assert own.min() >= 20 and np.median(own) < 40, own
    assert passed_ms > 3 * own.sum(), "a clock on the wall would have shown the others' time"


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x80\x04.", b"[1,2]\n", b"[null,null,null]\n", b'[{"dtype":"O","shape":[3]},null,null]\n' + b"x" * 24,
     b'[{"dtype":"<f8","shape":[3]},null,null]\nshort', b'[{"dtype":"<f8","shape":[-3]},null,null]\n',
     b'[{"dtype":"<f8","shape":[9999999999999]},null,null]\n', b'[{"items":["a"]},null,null]\n',
     b'[{"items":["a","b","c"]},{"dtype":"<f8","shape":[3,2]},null]\n' + b"\0" * 48, pickle.dumps(Evaluated("1/0"))],
)  # fmt: skip
def test_an_answer_is_read_as_data_whatever_it_is(answer: bytes) -> None:
    with pytest.raises(FinalError, match="does not answer with one prediction a row"):
        model_host._unpack(answer, 3, "m")


def test_packing_keeps_predictions() -> None:
    given = Predictions(np.array(["a", "b"]), np.array([[0.1, 0.9], [0.6, 0.4]]), np.array(["a", "b"]))
    found = model_host._unpack(pack(given), 2, "m")
    assert found.values.tolist() == ["a", "b"] and (found.probabilities == given.probabilities).all()


def test_a_model_that_is_used_again_is_not_loaded_again(host: ModelHost, tmp_path: Path) -> None:
    first = model_folder(tmp_path / "first", answering("[1.0] * len(X)"))
    other = model_folder(tmp_path / "other", answering("[2.0] * len(X)"))
    pool = ModelPool(host, most=1)

    def given(folder: Path) -> Any:
        def fetch(place: Path) -> Path:
            import shutil

            return Path(shutil.copytree(folder, place / "model"))

        return fetch

    model, size = pool.use("models:/a/1", given(first))
    again, _ = pool.use("models:/a@champion", given(first))
    assert again is model and again.name == "models:/a@champion"
    assert size == sum(path.stat().st_size for path in first.iterdir())
    changed, _ = pool.use("models:/a/1", given(other))  # the same name, other content
    assert changed is not model and changed.predict(ROWS).values.tolist() == [2.0] * 3
    assert not model.alive, "only one stays"
    changed.close()


# --- where a model's files may lie


@pytest.fixture
def store(tmp_path: Path, mlflow_database: Path) -> str:
    import shutil

    shutil.copyfile(mlflow_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_version_whose_source_lies_elsewhere_is_not_loaded_and_gets_no_token(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "qx7canaryToken")
    outside = model_folder(tmp_path / "outside/evil", answering("[1.0] * len(X)"))
    client = MlflowClient(store)
    client.create_registered_model("churn")
    run = client.create_run(client.create_experiment("e", str(tmp_path / "artifacts"))).info
    host = f"127.0.0.1:{server.server_address[1]}"
    sources = [
        str(outside), f"file://{outside}", f"http://{host}/evil", f"mlflow-artifacts://{host}/evil",
        f"{run.artifact_uri}/../../../outside/evil", f"{run.artifact_uri}/%2e%2e/x", "s3://bucket/model",
    ]  # fmt: skip
    try:
        for number, source in enumerate(sources, 1):
            client.create_model_version("churn", source, run_id=run.run_id)
            for uri in (f"models:/churn/{number}",):
                with pytest.raises(OutsideStoreError, match="lie outside the configured store"):
                    fetch_model(uri, store, folder=tmp_path / "to")
        for number in (3, 4):
            with pytest.raises(FinalError, match="gets no credentials of ours"):
                fetch_model(f"models:/churn/{number}", store, folder=tmp_path / "to", outside=True)
        assert asked == []
        (tmp_path / "to").mkdir()
        assert (fetch_model("models:/churn/1", store, folder=tmp_path / "to", outside=True) / "MLmodel").is_file()
    finally:
        server.shutdown()
        server.server_close()


def test_an_experiment_whose_folder_lies_anywhere_makes_no_store_of_it(store: str, tmp_path: Path) -> None:
    """Whoever may make an experiment chooses the folder of its artifacts."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.create_experiment("mine", str(tmp_path / "elsewhere"))
    run = client.create_run(experiment).info
    evil = model_folder(Path(run.artifact_uri) / "m", answering("[1.0] * len(X)"))
    client.create_registered_model("own")
    client.create_model_version("own", f"{run.artifact_uri}/m", run_id=run.run_id)
    logged = client.create_logged_model(experiment, name="other")
    client.log_model_artifacts(logged.model_id, str(evil))
    for uri in (f"runs:/{run.run_id}/m", "models:/own/1", f"models:/{logged.model_id}"):
        with pytest.raises(OutsideStoreError, match="lie outside the configured store"):
            fetch_model(uri, store, folder=tmp_path / "to")


def test_models_of_the_store_are_found_by_every_form(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)  # a database registry looks logged models up there

    client = MlflowClient(store)
    made = model_folder(tmp_path / "m/model", answering("[1.0] * len(X)"))
    experiment = client.create_experiment("e", str(tmp_path / "artifacts"))
    run = client.create_run(experiment).info
    client.log_artifacts(run.run_id, str(made), "model")
    logged = client.create_logged_model(experiment, name="other")
    client.log_model_artifacts(logged.model_id, str(made))
    client.create_registered_model("churn")
    client.create_model_version("churn", f"models:/{logged.model_id}", model_id=logged.model_id)
    client.create_model_version("churn", f"{run.artifact_uri}/model", run_id=run.run_id)
    client.set_registered_model_alias("churn", "champion", "2")
    for uri in ("models:/churn/1", "models:/churn/2", "models:/churn@champion", f"models:/{logged.model_id}",
                f"runs:/{run.run_id}/model"):  # fmt: skip
        assert (fetch_model(uri, store) / "MLmodel").is_file(), uri
    with pytest.raises(FinalError, match="cannot load the model models:/churn/9"):
        fetch_model("models:/churn/9", store)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///mlflow.db", "sqlite:////shop/mlflow.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("./mlruns", "/shop/mlruns"),
        ("mlruns", "/shop/mlruns"),
        ("file:./mlruns", "/shop/mlruns"),
        ("file:///srv/mlruns", "file:///srv/mlruns"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("databricks", "databricks"),
        ("postgresql+psycopg2://u@h/db", "postgresql+psycopg2://u@h/db"),
    ],
)
def test_a_relative_address_of_a_store_is_one_below_the_project(written: str, meant: str) -> None:
    assert absolute_address(written, Path("/shop")) == meant


def test_a_child_gets_the_credentials_of_its_store_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "AZURE_STORAGE_ACCESS_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    for name in [
        name for name in os.environ if name.startswith(("AWS_", "MLFLOW_S3")) and name != "AWS_SECRET_ACCESS_KEY"
    ]:
        monkeypatch.delenv(name)
    assert store_credentials({}, "sqlite:///x.db") == {}
    assert store_credentials({}, "sqlite:///x.db", "/artifacts/1") == {}
    assert set(store_credentials({}, "https://h", "/artifacts/1")) == {"MLFLOW_TRACKING_TOKEN"}
    assert set(store_credentials({}, "sqlite:///x.db", "s3://b/1")) == {"AWS_SECRET_ACCESS_KEY"}
    assert (
        json.dumps(store_credentials({"MLFLOW_TRACKING_TOKEN": "set"}, "https://h", ""))
        == '{"MLFLOW_TRACKING_TOKEN": "set"}'
    )
