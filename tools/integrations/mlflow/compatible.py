"""Whether this MLflow can work with a store of another version, without changing it.

MLflow's client, given a database instead of a server, adds the tables that it misses: an older server that the database
belongs to cannot open it any more, and nobody asked for that. Given a server older than 3.0, it reads, and cannot log
models.
"""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tools.core.errors import NeedsPersonError
from tools.core.proxies import may_use_proxy

if TYPE_CHECKING:
    import httpx

OLDEST = 3  # the first whose servers take logged models
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@functools.cache
def check_database(uri: str) -> None:
    """Raise `NeedsPersonError` where the address is a database that another version of MLflow made. Changes nothing.

    An address of another kind passes, and so does a database without tables of MLflow, or that cannot be reached: what
    opens it next says why.
    """
    if not uri.startswith(DATABASES):
        return
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config  # pyright: ignore[reportPrivateUsage]
    from mlflow.version import VERSION
    from sqlalchemy import create_engine, inspect, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    address = make_url(uri)
    if address.drivername.startswith("sqlite") and not _is_file(address.database):
        return  # connecting would make it
    try:
        engine = create_engine(address)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table("alembic_version"):
                    return
                found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError):
        return
    known = ScriptDirectory.from_config(_get_alembic_config(uri))
    if found is None or found == known.get_current_head():
        return
    where = address.render_as_string(hide_password=True)
    if found not in {revision.revision for revision in known.walk_revisions()}:
        raise NeedsPersonError(
            f"the MLflow database {where} was made by a newer MLflow than {VERSION}, which is installed here; install "
            "that version, or set MLFLOW_TRACKING_URI to the address of its server (http://...)"
        )
    raise NeedsPersonError(
        f"the MLflow database {where} was made by an older MLflow. Opening it with {VERSION}, which is installed here, "
        "would change it, and an older server or client could not read it any more. Set MLFLOW_TRACKING_URI to the "
        "address of the server (http://...); or, if only this version is to use it, back it up and run: mlflow db "
        f"upgrade {where}"
    )


def check_server(uri: str, timeout_s: float) -> None:
    """Raise `NeedsPersonError` where the address is a server that is too old; one that does not say passes."""
    import httpx

    if not is_server(uri):
        return
    try:
        told = ask_openly(uri, "version", timeout_s).text
    except httpx.HTTPError:
        return
    found = re.fullmatch(r"(\d+)\.\d+[\w.]*", told.strip())
    if found and int(found[1]) < OLDEST:
        raise too_old(uri, told.strip())


def too_old(uri: str, version: str = "") -> NeedsPersonError:
    """What to do about a server that takes no models of this MLflow."""
    from mlflow.version import VERSION

    uri, shown = hidden(uri), f"MLflow {version}" if version else f"older than MLflow {OLDEST}"
    return NeedsPersonError(
        f"the MLflow server at {uri} is {shown}: models can be read from it, but it does not take those that are "
        f"logged with {VERSION}, which is installed here; update the server to {OLDEST}.0 or later, or unset "
        "MLFLOW_TRACKING_URI to use the store of the project"
    )


def is_server(uri: str) -> bool:
    """Whether the address is one of HTTP."""
    return uri.startswith(("http://", "https://"))


def ask_openly(uri: str, page: str, timeout_s: float) -> "httpx.Response":
    """A page of a server that tells nothing secret: none is sent, and certificates are checked by the calls that
    follow. Raises what httpx raises."""
    import httpx

    return httpx.get(f"{uri.rstrip('/')}/{page}", timeout=timeout_s, verify=False, trust_env=may_use_proxy(uri))


def hidden(uri: str) -> str:
    """An address without user and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def _is_file(path: str | None) -> bool:
    return bool(path) and Path(str(path)).is_file()
