"""The kinds of engine, one small file each, and one for all others that SQLAlchemy has a dialect for."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from sqlalchemy.engine import URL, make_url

from monitor.engine import Dialect, Engine
from monitor.engines.generic import generic

# Where each is, loaded when the first engine of its kind is connected: the others would take 1 MB for nothing.
_PLACES = {
    "duckdb": "monitor.engines.duckdb:DUCKDB",
    "sqlite": "monitor.engines.sqlite:SQLITE",
    "postgresql": "monitor.engines.postgres:POSTGRES",
    "mariadb": "monitor.engines.mysql:MARIADB",
    "mysql": "monitor.engines.mysql:MYSQL",
    "hive": "monitor.engines.hive:HIVE",
}
NAMES = tuple(_PLACES)


def connect(name: str, url: str, timeout_seconds: float = 60.0, options: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine for a URL; nothing is connected yet.

    Raises:
        ValueError: No engine knows this kind of URL, and SQLAlchemy has no dialect and driver for it.
    """
    parsed = make_url(url)
    try:
        return Engine(name, url, _dialect(parsed), timeout_seconds, options or {})
    except ValueError as error:
        known, backend = ", ".join(NAMES), parsed.get_backend_name()
        raise ValueError(f"engine {name}: no support for {backend}; use one of {known}: {error}") from error


def _dialect(url: URL) -> Dialect:
    backend = url.get_backend_name()
    if backend not in _PLACES:
        return generic(url)
    dialect: Dialect = resolve_name(_PLACES[backend])
    return dialect
