"""Fixtures every test may use. Nothing here reaches beyond loopback."""

import os
import signal
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tools.core.contract import CallContext
from tools.core.dispatch import run_action
from tools.core.results import ToolResult
from tools.core.roots import Roots
from tools.registry import load_spec


def data_folder() -> Path | None:
    """The folder of the real data sets: `MLOPS_DATA`, or `../shared/data` beside the project."""
    configured = os.environ.get("MLOPS_DATA")
    candidates = [Path(configured)] if configured else [Path(__file__).parents[2] / "shared" / "data"]
    return next((path for path in candidates if path.is_dir()), None)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A terminated test run (`timeout`, CI) ends as after Ctrl-C: fixtures stop the servers that they started."""

    def stop(number: int, frame: FrameType | None) -> None:
        session.shouldstop = "terminated"  # also where the test under way takes the interrupt for its own
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGTERM, stop)


@pytest.fixture(autouse=True, scope="session")
def _keys_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals and approvals are signed with keys that lie outside the project; no test touches those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_KEYS", str(tmp_path_factory.mktemp("keys_of") / "keys"))
        yield


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Libraries set variables for themselves (MLflow its addresses); the next test must not inherit them."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds, copying it nothing."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    path = tmp_path_factory.mktemp("mlflow_template") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside MLflow
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets; skips where they are not available."""
    folder = data_folder()
    if folder is None:
        pytest.skip("real data sets not found: set MLOPS_DATA to their folder")
    return folder


class Project:
    """A temporary project: calls actions straight at the backends, without gateway or policy.

    Args:
        data: folders outside that it reads too.
    """

    def __init__(self, root: Path, data: Iterable[Path] = ()) -> None:
        self.root = root
        self.backends: dict[str, Any] = {}
        roots = Roots(root, root / ".mlops", "test", (root, *data))
        self.ctx = CallContext(project=root, home=root / ".mlops", run_id="test", roots=roots)

    def call(self, integration: str, action: str, **arguments: Any) -> ToolResult:
        spec = load_spec(integration)
        if integration not in self.backends:
            self.backends[integration] = spec.load_backend(spec.resolve_settings(os.environ))
        return run_action(spec, self.backends[integration], action, arguments, self.ctx)

    def ok(self, integration: str, action: str, **arguments: Any) -> dict[str, Any]:
        """The data of a call that must succeed."""
        result = self.call(integration, action, **arguments)
        assert result.ok, result
        assert result.data is not None
        return result.data


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    real = data_folder()
    made = Project(tmp_path, data=[] if real is None else [real])
    yield made
    for backend in made.backends.values():
        backend.close()
