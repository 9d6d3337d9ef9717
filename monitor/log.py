"""Log lines: a constant event name and keys, on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar

_LOGGER = logging.getLogger("recwatch")
# Whose work a thread does, where one process has several pipelines: then every line says it.
whose: ContextVar[str] = ContextVar("whose", default="")


def set_up() -> None:
    """Send log lines to standard error, in UTC."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    # A tick that comes while the one before it still runs is left out, and says so each time; the
    # next one catches up. Only what goes wrong is worth a line.
    for name in ("apscheduler", "waitress"):
        library = logging.getLogger(name)
        library.handlers[:], library.propagate = [handler], False
        library.setLevel(logging.ERROR)


def event(name: str, **keys: object) -> None:
    """Log something worth knowing."""
    _LOGGER.info(_line(name, keys))


def error(name: str, **keys: object) -> None:
    """Log something that went wrong."""
    _LOGGER.error(_line(name, keys))


def _line(name: str, keys: dict[str, object]) -> str:
    parts = [name]
    if whose.get():
        keys = {**keys, "pipeline": whose.get()}
    for key, value in keys.items():
        text = str(value)
        is_plain = text.isprintable() and " " not in text and text
        # What cannot be seen, such as what turns the direction of writing, is spelt out.
        parts.append(f"{key}={text if is_plain else json.dumps(text, ensure_ascii=not text.isprintable())}")
    return " ".join(parts)
