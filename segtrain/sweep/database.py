"""A database that several workers share, and may come to at the same moment."""

import logging
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from segtrain.errors import UserError, first_line
from segtrain.jobs import without_password

log = logging.getLogger("segtrain")

TABLE_ATTEMPTS = 10  # of workers that make the tables of an empty database at the same time
LOCKED = 20  # seconds for another worker to finish with an SQLite file; see `Patience` for what follows


def open_database(url: str, *, heartbeat_interval: int, grace_period: int) -> RDBStorage:
    """Return Optuna's storage in a database; its tables are made if they are not there.

    Args:
        url: as SQLAlchemy's: sqlite:///study.db, postgresql://user@host/database.
        heartbeat_interval: seconds between two signs of life of a trial's worker.
        grace_period: seconds without one, after which the worker is dead.
    """
    for attempt in range(1, TABLE_ATTEMPTS + 1):
        try:
            storage = RDBStorage(
                _with_driver(url).replace("{", "{{").replace("}", "}}"),  # Optuna formats it
                engine_kwargs=_engine_arguments(url),
                heartbeat_interval=heartbeat_interval,
                grace_period=grace_period,
            )
            break
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            # the tables that were missing a moment ago are there now: another worker makes them too
            if attempt == TABLE_ATTEMPTS or not re.search("already exists|duplicate|UNIQUE", str(error)):
                raise
            time.sleep(random.random() * attempt / 2)
    if storage.engine.dialect.name == "sqlite":
        lock_before_reading(storage.engine)
    return storage


def lock_before_reading(engine: Engine) -> None:
    """Let each transaction on a file lock it from its beginning.

    Optuna takes a waiting trial by reading its state and then writing it, and SQLite has no lock of a row: two
    workers that both read first would both have the trial.
    """

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # of connections from before


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Word the errors of a database that cannot be used; a password is not shown.

    Raises:
        UserError: naming the storage, what is wrong with it, and the remedy.
    """
    try:
        make_url(_with_driver(url)).get_dialect()
    except (ArgumentError, ValueError) as error:
        raise UserError(
            f"storage: {shown(url)!r} is no address of a database, such as sqlite:///study.db or "
            "postgresql://USER@HOST/DATABASE (in a password, write @ as %40, / as %2F, % as %25)"
        ) from error
    try:
        yield
    except ImportError as error:
        driver = error.__cause__ or error.__context__ or error
        raise UserError(
            f"storage: {shown(url)} needs a driver ({driver}); for PostgreSQL pip install 'psycopg[binary]>=3.2'"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        raise UserError(f"storage: {shown(url)} cannot be reached ({first_line(cause)})") from error
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise UserError(f"storage: {shown(url)} has tables of another version of Optuna: {error}") from error


def shown(url: str) -> str:
    """Return a storage's address without its password."""
    try:
        make_url(url)
    except (ArgumentError, ValueError):
        url = re.sub(r"^(\w+:/*)?.*@", r"\1***@", url)
    return without_password(url)


def _with_driver(url: str) -> str:
    return re.sub("^postgres(ql)?://", "postgresql+psycopg://", url)


def _engine_arguments(url: str) -> dict[str, object]:
    """Return what makes a connection wait for other workers, and notice a server that started anew."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": LOCKED}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 20}}
