"""How values, limits and times are said to a person: the same words on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

from checks.dataset import closest

NOTHING = "\N{EN DASH}"
_LONG_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))
# What is whole by nature; shown without a fraction, with thousands apart.
_COUNTS = frozenset({"rows", "changes"})
# What a number without a unit of its own is called beside it.
_NAMES = {"rows": "rows", "changes": "changes", "psi": "PSI", "js_distance": "JS distance", "l_infinity": "L-infinity"}

# What other tools call the keys, roles and checks of a configuration; of several the one that can stand at the place.
_ELSEWHERE = {
    "alerts": "notify", "notification": "notify", "notifications": "notify", "objectives": "slos",
    "database": "engine engines", "db": "engine engines", "http": "server", "metrics": "server", "kafka": "streams",
    "url": "webhook_url", "path": "files", "paths": "files", "glob": "files", "uri": "url", "dsn": "url",
    "connection": "url", "catalog": "items", "catalogue": "items", "topic": "stream", "deploys": "changes",
    "retention": "keep", "event": "event_type", "timestamp": "event_time", "time": "event_time", "ts": "event_time",
    "customer": "user", "visitor": "user", "member": "user", "account": "user", "product": "item", "article": "item",
    "content": "item", "action": "event_type", "platform": "source", "channel": "source",
    "price": "value", "rating": "value", "schema": "contract", "volume": "ingestion", "nulls": "unknown_ids",
    "completeness": "ingestion", "latency": "freshness", "lag": "freshness", "staleness": "freshness",
    "uniqueness": "duplicates", "interval": "every step", "frequency": "every", "schedule": "every cron",
    "max_delay": "max_age",
    "threshold": "max_age max_ratio max_failed_ratio min_effect", "target": "objective", "goal": "objective",
    "owner": "team", "kind": "type", "bind": "host", "listen": "host", "address": "host", "ssl": "tls", "https": "tls",
    "brokers": "kafka", "bootstrap_servers": "kafka", "promql": "query", "expr": "query", "from": "start",
    "begin": "start", "to": "end", "duration": "for", "length": "for", "message": "text", "label": "text",
}  # fmt: skip


def value_text(measure: str, value: float | None, digits: int = 3) -> str:
    """Return a value as people read it: ratios in percent, seconds as durations, counts whole.

    Args:
        measure: Name of the value, which ends in its unit: ``lag_seconds``, ``unknown_ratio``.
        value: What was found or its limit; None and what is not finite have no number to show.
        digits: Significant digits, 1 or more; whole numbers keep all theirs.

    Examples:
        >>> value_text("unknown_ratio", 0.0312), value_text("lag_seconds", 402), value_text("rows", 12345)
        ('3.12 %', '6.7 min', '12,345')
        >>> value_text("psi", 0.10349), value_text("density", None) == NOTHING
        ('0.103', True)
    """
    if value is None or not isfinite(value):
        return NOTHING
    if measure.endswith("_ratio"):
        return f"{_number(100 * value, digits)} %"
    if measure.endswith("_seconds"):
        return duration_words(value, digits)
    if measure in _COUNTS:
        return f"{value:,.0f}"
    return _number(value, digits)


def told_apart(measure: str, value: float | None, limit: float | None) -> tuple[str, str]:
    """Return a value and its limit as texts that differ if the numbers do.

    Examples:
        >>> told_apart("unknown_ratio", 0.010004, 0.01)
        ('1.0004 %', '1 %')
    """
    for digits in range(3, 10):
        texts = value_text(measure, value, digits), value_text(measure, limit, digits)
        if texts[0] != texts[1] or value == limit:
            break
    return texts


def unit_text(measure: str, number: str = "") -> str:
    """Return what to write after a value that has no unit in its text; empty where it has one.

    Args:
        measure: Name of the value.
        number: The value's text; of one there is no plural.

    Examples:
        >>> unit_text("js_distance"), unit_text("unknown_ratio"), unit_text("changes", "1")
        ('JS distance', '', 'change')
    """
    name = _NAMES.get(measure, "")
    return name.removesuffix("s") if number == "1" and measure in _COUNTS else name


def duration_words(seconds: float, digits: int = 3) -> str:
    """Return a duration in its largest fitting unit.

    Examples:
        >>> duration_words(0.0123), duration_words(42), duration_words(90_000)
        ('12.3 ms', '42 s', '1.04 d')
    """
    for unit, size in _LONG_UNITS:
        if abs(seconds) >= size:
            return f"{_number(seconds / size, digits)} {unit}"
    if 0 < abs(seconds) < 1:
        return f"{_number(1000 * seconds, digits)} ms"
    return f"{_number(seconds, digits)} s"


def span_text(seconds: float) -> str:
    """Return a length of time in full, its two largest units, for what a person has set.

    Examples:
        >>> span_text(30), span_text(5400), span_text(7 * 86400)
        ('30 s', '1 h 30 min', '7 d')
    """
    parts, rest = [], round(seconds)
    if rest == 0:
        return duration_words(seconds)
    for unit, size in (*_LONG_UNITS, ("s", 1.0)):
        whole, rest = divmod(rest, int(size))
        if whole:
            parts.append(f"{whole} {unit}")
    return " ".join(parts[:2])


def ago(seconds: float) -> str:
    """Return how long ago something was, in one whole unit.

    Examples:
        >>> ago(0.4), ago(59.9), ago(3599), ago(200_000)
        ('just now', '59 s ago', '59 min ago', '2 d ago')
    """
    if seconds < 1:
        return "just now"
    for unit, size in _LONG_UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def _number(value: float, digits: int) -> str:
    """Return a number with this many significant digits, and never less than its whole part."""
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def whole(text: str) -> str:
    r"""Return a text from outside as every database and receiver takes it, without halves of characters and NUL.

    Examples:
        >>> whole("a\ud83d b\0")
        'a? b?'
    """
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def probable(name: str, known: Iterable[str]) -> str | None:
    """Return the one of some names that was probably meant: the closest, else one that others call so; None if none.

    Examples:
        >>> probable("path", ["watch", "files", "table"]), probable("path", ["watch"])
        ('files', None)
    """
    known = list(known)
    elsewhere = _ELSEWHERE.get(name.casefold(), "").split()
    return next((word for word in elsewhere if word in known), None) or closest(name, known)


def meant(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return what to do about a name that nothing has.

    Args:
        name: The name.
        known: Names that something has.
        otherwise: What to do where none of them is alike; by default to use one of them.

    Examples:
        >>> meant("freshnes", ["freshness", "density"]), meant("x", ["freshness", "density"])
        ('did you mean freshness?', 'use one of freshness, density')
        >>> meant("x", ["freshness"], "add it"), meant("freshnes", ["freshness"], "add it")
        ('add it', 'did you mean freshness?')
    """
    known = list(known)
    close = probable(name, known)
    return f"did you mean {close}?" if close else otherwise or f"use one of {', '.join(known)}"
