"""The kinds of engine, one small file each, and one for all others that SQLAlchemy has a dialect for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import make_url

from monitor.engine import Dialect, Engine
from monitor.engines.duckdb import DUCKDB
from monitor.engines.generic import generic
from monitor.engines.hive import HIVE
from monitor.engines.mysql import MARIADB, MYSQL
from monitor.engines.postgres import POSTGRES
from monitor.engines.sqlite import SQLITE

DIALECTS: tuple[Dialect, ...] = (DUCKDB, SQLITE, POSTGRES, MARIADB, MYSQL, HIVE)


def connect(name: str, url: str, timeout_seconds: float = 60.0, options: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine for a URL; nothing is connected yet.

    Raises:
        ValueError: No engine knows this kind of URL, and SQLAlchemy has no dialect and driver for it.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    for dialect in DIALECTS:
        if dialect.name == backend:
            return Engine(name, url, dialect, timeout_seconds, options or {})
    try:
        return Engine(name, url, generic(parsed), timeout_seconds, options or {})
    except ValueError as error:
        known = ", ".join(dialect.name for dialect in DIALECTS)
        raise ValueError(f"engine {name}: no support for {backend}; use one of {known}: {error}") from error
