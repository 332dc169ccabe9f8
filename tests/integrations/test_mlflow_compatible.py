"""Stores of other versions of MLflow: read where that works, refused in words where it does not, and never changed."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools.core.errors import NeedsPersonError
from tools.integrations.mlflow import compatible
from tools.integrations.mlflow.compatible import check_database, check_server

OLDER = "cc1f77228345"  # a revision of 2020


@pytest.fixture
def database(tmp_path: Path, mlflow_database: Path) -> Path:
    compatible.check_database.cache_clear()
    return Path(shutil.copyfile(mlflow_database, tmp_path / "team.db"))


def stamp(database: Path, revision: str) -> None:
    """As an older version would have left it: its own revision, and a table that came later is not there yet."""
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.execute("DROP TABLE logged_model_tags")
    connection.close()


def test_a_database_of_an_older_mlflow_is_not_changed_by_reading_it(
    project: Any, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(database, OLDER)
    before = database.read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    result = project.call("mlflow", "get_champion", name="churn")
    assert result.error.kind == "needs_person"
    assert "made by an older MLflow" in result.message and "mlflow db upgrade sqlite:///" in result.message
    assert database.read_bytes() == before


def test_a_database_of_a_newer_mlflow_is_named_so(database: Path) -> None:
    stamp(database, "ffffffffffff")
    with pytest.raises(NeedsPersonError, match="made by a newer MLflow"):
        check_database(f"sqlite:///{database}")


def test_a_password_in_the_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    import sqlalchemy

    stamp(database, OLDER)
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda *_: engine)
    compatible.check_database.cache_clear()
    with pytest.raises(NeedsPersonError) as caught:
        check_database("postgresql://ann:s3cretword@db.example/mlflow")
    assert "s3cretword" not in caught.value.message and "db.example" in caught.value.message


def test_databases_of_this_version_or_without_tables_pass_and_none_is_made(tmp_path: Path, database: Path) -> None:
    check_database(f"sqlite:///{database}")
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    empty.touch()
    check_database(f"sqlite:///{empty}")
    check_database(f"sqlite:///{tmp_path / 'none.db'}")
    assert not (tmp_path / "none.db").exists()


@pytest.fixture
def old_server() -> Iterator[str]:
    """What a server of 2.9 answers: its version, and 404 to what it does not know."""

    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/health": b"OK", "/version": b"2.9.2"}.get(self.path)
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(known or b"<!doctype html> <title>404 Not Found</title>")

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, format: str, *args: Any) -> None:
            """Not in a test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Old)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_too_old_is_told_in_words(
    project: Any, old_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NeedsPersonError, match=r"is MLflow 2\.9\.2: models can be read from it"):
        check_server(old_server, 10.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", old_server)
    result = project.call("mlflow", "search_runs")
    assert result.error.kind == "needs_person"
    assert "older than MLflow 3" in result.message and "html" not in result.message


def test_a_password_in_the_address_of_a_server_is_not_shown() -> None:
    message = compatible.too_old("http://ann:s3cretword@mlflow.example:5000", "2.9.2").message
    assert "s3cretword" not in message and "http://mlflow.example:5000" in message
