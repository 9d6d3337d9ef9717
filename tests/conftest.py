"""What tests share: the command line as a person types it, engines with made rows in them, a server, a clock."""

from __future__ import annotations

import math
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import settings

from checks.check import Verdict
from checks.window import Window
from monitor.baselines import Builder
from monitor.cli import main
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.database import Database
from monitor.demo import free_port
from monitor.records import Judged
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store

# The same examples in every run of continuous integration; new ones are looked for by people.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write expected texts anew.")


# Each takes a minute or more; begun last, one process would be alone with it at the end.
LONG = (
    "test_kills.py",
    "test_demo.py",
    "test_queries.py",
    "test_two_daemons.py",
    "test_both_agree.py",
    "test_parity.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


# -- the command line ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def recwatch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["recwatch", *arguments])
        monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _states_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a test opens and leaves, which from Python 3.13 on is a warning wherever it is collected."""
    opened: list[Database] = []
    begin = Database.__init__

    def noted(state: Database, *arguments: Any, **named: Any) -> None:
        opened.append(state)
        begin(state, *arguments, **named)

    monkeypatch.setattr(Database, "__init__", noted)
    yield
    for state in opened:
        if hasattr(state, "_engine"):
            state.close()


# -- a real PostgreSQL -----------------------------------------------------------------------------


def _binary(name: str) -> str | None:
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server of our own."""
    initdb, server = _binary("initdb"), _binary("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    # The server refuses to run as root; Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="recwatch-postgresql-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data, port = folder / "data", free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "user": user, "cwd": folder}
    subprocess.run([initdb, "-D", str(data), "-U", "watch", "-A", "trust", "-E", "UTF8"], check=True, **quiet)  # type: ignore[call-overload]
    command = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    running = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    url = f"postgresql+psycopg://watch@127.0.0.1:{port}/postgres"
    try:
        _wait(url, running)
        yield url
    finally:
        running.terminate()
        running.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, running: subprocess.Popen[bytes]) -> None:
    ends, engine = time.monotonic() + 60, sa.create_engine(url)
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except sa.exc.OperationalError:
            if running.poll() is not None or time.monotonic() > ends:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """The URL of an empty database on a MariaDB server of our own; to its collation ``ios`` and ``iOS`` are equal."""
    server, install = (shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("mariadbd", "mariadb-install-db"))
    if server is None or install is None or find_spec("pymysql") is None:
        pytest.skip("MariaDB or its driver is not installed (Debian's package mariadb-server, and pymysql)")
    folder, port = Path(tempfile.mkdtemp(prefix="recwatch-mariadb-")), free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    place = ["--no-defaults", f"--datadir={folder}/data", *user]
    subprocess.run([install, *place, "--auth-root-authentication-method=normal"], check=True, **quiet)
    listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket"]
    quick = ["--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=64M", "--character-set-server=utf8mb4"]
    running = subprocess.Popen([server, *place, *listening, *quick], **quiet)
    try:
        _wait(f"mariadb+pymysql://root@127.0.0.1:{port}/test", running)
        yield f"mariadb://root@127.0.0.1:{port}/test"
    finally:
        running.terminate()
        running.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


# -- the same rows in every engine -----------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Made rows. Columns have one of the kinds of ``KINDS``, or a type in the engine's own words."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]] = ()


# Names of types in DuckDB, SQLite, PostgreSQL and MariaDB.
KINDS = {
    "text": ("VARCHAR", "TEXT", "TEXT", "LONGTEXT"),
    "integer": ("BIGINT", "BIGINT", "BIGINT", "BIGINT"),
    "number": ("DOUBLE", "DOUBLE", "DOUBLE PRECISION", "DOUBLE"),
    "decimal": ("DECIMAL(18, 4)", "DECIMAL(18, 4)", "NUMERIC(18, 4)", "DECIMAL(18, 4)"),
    "boolean": ("BOOLEAN", "BOOLEAN", "BOOLEAN", "BOOLEAN"),
    "timestamp": ("TIMESTAMP", "TIMESTAMP", "TIMESTAMP", "DATETIME(6)"),
    "zoned": ("TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP(6) NULL"),
    "date": ("DATE", "DATE", "DATE", "DATE"),
    "uuid": ("UUID", "TEXT", "UUID", "UUID"),
}
DIALECTS = ("duckdb", "sqlite", "postgresql", "mariadb")
Tables = Mapping[str, Table]


def _typed(table: Table, dialect: str) -> dict[str, str]:
    at = DIALECTS.index(dialect)
    return {name: KINDS[kind][at] if kind in KINDS else kind for name, kind in table.columns.items()}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Place:
    """An engine that rows are put into, as a configuration names it: here a DuckDB file."""

    folder: Path
    url: str = ""
    # Whether every number is finite there.
    is_finite = False

    @property
    def engines(self) -> Mapping[str, Any]:
        return {"shop": {"url": self.url or f"duckdb:///{self.folder}/shop.duckdb"}}

    def dataset(self, table: str) -> Mapping[str, Any]:
        return {"table": table}

    def fill(self, tables: Tables) -> None:
        """Put tables in, in the place of those with the same name."""
        with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
            self._create(connection, tables)

    def _create(self, connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            types = _typed(table, "duckdb")
            spelt = ", ".join(f"{quoted(column)} {kind}" for column, kind in types.items())
            schema, _, bare = name.rpartition(".")
            if schema:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            path = f"{quoted(schema)}.{quoted(bare)}" if schema else quoted(bare)
            connection.execute(f"CREATE OR REPLACE TABLE {path} ({spelt})")
            if table.rows:
                lists = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in types.values())
                # As a text: of NaN in a list the driver makes NULL.
                columns = zip(*table.rows, strict=True)
                values = [["nan" if value != value else value for value in column] for column in columns]
                connection.execute(f"INSERT INTO {path} SELECT {lists}", values)


@dataclass
class FilesPlace(Place):
    """Files of one format, read by the embedded DuckDB."""

    ending: str = "parquet"

    @property
    def engines(self) -> Mapping[str, Any]:
        return {}

    def dataset(self, table: str) -> Mapping[str, Any]:
        return {"files": f"{self.folder}/{table}.{self.ending}"}

    def fill(self, tables: Tables) -> None:
        options = {"parquet": "FORMAT parquet", "csv": "FORMAT csv, HEADER", "json": "FORMAT json"}[self.ending]
        with duckdb.connect() as connection:
            self._create(connection, tables)
            for name in tables:
                path = ".".join(quoted(part) for part in name.rsplit(".", 1))
                target = f"{self.folder}/{name}.{self.ending}".replace("'", "''")
                connection.execute(f"COPY {path} TO '{target}' ({options})")


@dataclass
class SQLitePlace(Place):
    """A SQLite file; times are texts in it."""

    @property
    def engines(self) -> Mapping[str, Any]:
        return {"shop": {"url": f"sqlite:///{self.folder}/shop.sqlite"}}

    def fill(self, tables: Tables) -> None:
        connection = sqlite3.connect(self.folder / "shop.sqlite")
        connection.execute("PRAGMA synchronous = off")
        for name, table in tables.items():
            columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in _typed(table, "sqlite").items())
            # There are no schemas: the part before the dot is the name of an attached file.
            path = quoted(name.rpartition(".")[2])
            connection.execute(f"DROP TABLE IF EXISTS {path}")
            connection.execute(f"CREATE TABLE {path} ({columns})")
            marks = ", ".join("?" * len(table.columns))
            plain = [[_plain(value) for value in row] for row in table.rows]
            connection.executemany(f"INSERT INTO {path} VALUES ({marks})", plain)
        connection.commit()
        connection.close()


def _plain(value: Any) -> Any:
    """Return a value as SQLite can hold it: times as UTC texts with their microseconds, as Python's driver does."""
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


@dataclass
class PostgreSQLPlace(Place):
    """A schema of a PostgreSQL server."""

    schema: str = "public"

    @property
    def engines(self) -> Mapping[str, Any]:
        return {"shop": {"url": self.url}}

    def dataset(self, table: str) -> Mapping[str, Any]:
        return {"table": table if "." in table else f"{self.schema}.{table}"}

    def fill(self, tables: Tables) -> None:
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            connection.execute("SET TIME ZONE 'UTC'")
            for name, table in tables.items():
                schema, _, bare = name.rpartition(".")
                path = f"{quoted(schema or self.schema)}.{quoted(bare)}".encode()
                columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in _typed(table, "postgresql").items())
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema or self.schema)}".encode())
                connection.execute(b"DROP TABLE IF EXISTS " + path)
                connection.execute(b"CREATE TABLE " + path + f" ({columns})".encode())
                with connection.cursor().copy(b"COPY " + path + b" FROM STDIN") as copy:
                    for row in table.rows:
                        copy.write_row(row)


@dataclass
class MariaDBPlace(Place):
    """A database of a MariaDB server, whose texts are compared without case and spaces at the end."""

    database: str = "test"
    is_finite = True

    @property
    def engines(self) -> Mapping[str, Any]:
        return {"shop": {"url": self.url}}

    def dataset(self, table: str) -> Mapping[str, Any]:
        return {"table": table if "." in table else f"{self.database}.{table}"}

    def fill(self, tables: Tables) -> None:
        engine = sa.create_engine(self.url.replace("mariadb:", "mariadb+pymysql:"))
        with engine.begin() as connection, closing(connection.connection.cursor()) as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            for name, table in tables.items():
                schema, _, bare = name.rpartition(".")
                path = ".".join(f"`{part.replace('`', '``')}`" for part in (schema or self.database, bare))
                names = [f"`{column.replace('`', '``')}`" for column in table.columns]
                columns = ", ".join(map(" ".join, zip(names, _typed(table, "mariadb").values(), strict=True)))
                cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{schema or self.database}`")
                cursor.execute(f"CREATE OR REPLACE TABLE {path} ({columns})")
                marks = ", ".join(["%s"] * len(names))
                rows = [[_storable(value) for value in row] for row in table.rows]
                cursor.executemany(f"INSERT INTO {path} VALUES ({marks})", rows)
        engine.dispose()


def _storable(value: Any) -> Any:
    """Return a value as MariaDB can hold it: times in UTC, and no number that is none."""
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC).replace(tzinfo=None)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass
class Bench:
    """A place for rows, and what checks find there.

    The clock stands still at the end of the window. After a run, ``disabled`` has the checks that lack a role,
    and ``steps`` what was asked for, one entry for each statement.
    """

    place: Place
    folder: Path
    disabled: dict[str, str] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)

    def run(
        self,
        datasets: Mapping[str, Any],
        window: Window,
        *,
        checks: Mapping[str, Any] | None = None,
        only: Sequence[str] = (),
        learn: Callable[[Builder], None] | None = None,
    ) -> list[Judged]:
        """Return what checks say about the dataset ``events``.

        Args:
            datasets: As in a configuration, without the place; ``table`` where a table has another name.
            window: Which rows to judge.
            checks: Settings by check, as in a configuration.
            only: Ids of the checks that run; all of them if empty.
            learn: Builds baselines into the store of the run, before it.
        """
        named = {
            name: {**dataset, **self.place.dataset(dataset.get("table", name))} for name, dataset in datasets.items()
        }
        config = Config.model_validate({"engines": self.place.engines, "datasets": named, "checks": checks or {}})
        with closing(build(config)) as pipeline, closing(Store(f"sqlite:///{self.folder}/state.db", "shop")) as store:
            runner = Runner(pipeline, store if learn else None, ManualClock(window.end), self.steps.append)
            if learn is not None:
                learn(Builder(runner, store))
            self.steps.clear()
            found = [check for check in pipeline.checks["events"] if not only or check.id in only]
            judged = runner.run("events", [(check, window) for check in found])
            self.disabled = {check: why.reason for (_dataset, check), why in runner.disabled.items()}
            return judged

    def verdicts(self, *arguments: Any, **options: Any) -> list[Verdict]:
        """Return the verdicts of ``run``."""
        return [verdict for judged in self.run(*arguments, **options) for verdict in judged.verdicts]


PLACES = (*DIALECTS, "parquet", "csv", "json")
Benches = Callable[[str], Bench]


@pytest.fixture
def benches(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Benches:
    """Makes a fresh bench by the name of its place."""

    def make(name: str) -> Bench:
        folder = tmp_path_factory.mktemp(name)
        place, schema = Place(folder), f"{folder.parent.name}_{folder.name}".replace("-", "_")
        if name == "sqlite":
            place = SQLitePlace(folder)
        elif name == "postgresql":
            place = PostgreSQLPlace(folder, request.getfixturevalue("postgresql"), schema)
        elif name == "mariadb":
            place = MariaDBPlace(folder, request.getfixturevalue("mariadb"), schema)
        elif name != "duckdb":
            place = FilesPlace(folder, ending=name)
        return Bench(place, folder)

    return make


@pytest.fixture(params=DIALECTS)
def bench(request: pytest.FixtureRequest, benches: Benches) -> Bench:
    """A bench over each kind of engine in turn."""
    return benches(request.param)


@pytest.fixture(scope="session")
def table() -> type[Table]:
    """Makes a table of made rows."""
    return Table


@pytest.fixture(scope="session")
def near() -> Callable[[Any, Any], bool]:
    """Tells whether two results are equal, floats to nine digits."""
    return _near


def _near(left: Any, right: Any) -> bool:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return set(left) == set(right) and all(_near(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_near, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return bool(left == pytest.approx(right, rel=1e-9, abs=1e-12))
    return bool(left == right)


Certify = Callable[[str], dict[str, str]]


@pytest.fixture
def certify(tmp_path: Path) -> Certify:
    """Return a function that makes a certificate for loopback, with its key, under a name of its own."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not here, so no certificate can be made")

    def made(name: str) -> dict[str, str]:
        cert, key = str(tmp_path / "tls.crt"), str(tmp_path / "tls.key")
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}",
                   "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        return {"cert": cert, "key": key}

    return made
