"""Writes a commented configuration from what was guessed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import yaml
from sqlalchemy.engine import make_url

from checks import CATALOGUE
from checks.dataset import LINKS, Dataset, Role, dataset_table
from checks.duplicates import Duplicates, DuplicatesSettings
from checks.unknown_ids import PLACEHOLDERS
from monitor.columns import TEXT_TIME
from monitor.crosscheck import COUNTING
from monitor.durations import duration_text
from monitor.guess import MOST_FEATURES, Found, Guessed
from monitor.rhythm import AGES, DAY, ENOUGH_FOR_SHAPES, ENOUGH_ROWS, HOUR, LONG_WINDOWS, WINDOWS
from monitor.survey import DATABASE, SAMPLE_ROWS, SPARK_TIMEOUT, Survey, is_spark

URL_VARIABLE = "RECWATCH_DATABASE_URL"
MOST_NAMED = 30
_FILE_URLS = ("sqlite:///", "duckdb:///")
_SECRET_WORDS = ("password", "secret", "token", "key")
_KINDS = ("events", "items", "users", "item_vocabulary", "user_vocabulary", "sent", "rejected", "other")
_TABLES = {"users": Role.USER, "items": Role.ITEM}


def compose(pipeline: str, found: Survey, folder: Path) -> str:
    """Return the text of a configuration.

    Args:
        pipeline: Name of the pipeline.
        found: What was found.
        folder: Where the file will lie; paths are written relative to it where they share a folder.
    """
    lines = [
        "# Written by recwatch init from a look at the data: at most the first",
        f"# {SAMPLE_ROWS:,} rows of each dataset. Each guess says how sure it is, and why; lines that are",
        "# commented out were not taken.",
        f"pipeline: {scalar(pipeline)}",
    ]
    if found.url is not None:
        lines += ["", "engines:", f"  {DATABASE}:", f"    url: {scalar(_written_url(found.url, folder))}"]
        if is_spark(found.url):
            lines += [f"    timeout: {duration_text(SPARK_TIMEOUT)}  # statements may wait for their turn"]
    lines += ["", "datasets:"]
    has_events = any(dataset.kind == "events" for dataset in found.datasets)
    for dataset in sorted(found.datasets, key=lambda dataset: (_KINDS.index(dataset.kind), dataset.name)):
        if dataset.kind == "other" and has_events:
            continue
        lines += [*_dataset(dataset, found.datasets, folder), ""]
    others = [dataset for dataset in found.datasets if dataset.kind == "other"] if has_events else []
    lines += [f"# left out: {dataset.name}: {dataset.why}" for dataset in others[:MOST_NAMED]]
    lines += [f"# left out: {len(others) - MOST_NAMED:,} more"] if len(others) > MOST_NAMED else []
    lines += [f"# left out: {' '.join(note.split())}" for note in found.notes[:MOST_NAMED]]
    return "\n".join(lines).rstrip("\n") + "\n"


def has_secret(url: str) -> bool:
    """Return whether a URL carries a password or another secret."""
    parsed = make_url(url)
    return parsed.password is not None or any(word in key.lower() for key in parsed.query for word in _SECRET_WORDS)


def _written_url(url: str, folder: Path) -> str:
    if has_secret(url):
        return f"${{{URL_VARIABLE}}}"
    for start in _FILE_URLS:
        if url.startswith(f"{start}/"):
            path, *options = url.removeprefix(start).split("?", maxsplit=1)
            written = _relative(unquote(path), folder).replace("%", "%25").replace("?", "%3F")
            return start + "?".join([written, *options])
    return url


def scalar(text: str) -> str:
    r"""Return a text as a YAML scalar on one line, whatever it holds.

    Examples:
        >>> scalar("user_id"), scalar("-1"), scalar("a, b"), scalar("yes"), scalar("x\ny")
        ('user_id', "'-1'", "'a, b'", "'yes'", '"x\\ny"')
    """
    # In a flow sequence more is quoted than need be elsewhere, so that it is right everywhere.
    style = None if text.isprintable() else '"'
    dumped: str = yaml.safe_dump(
        [text], default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=True
    )
    return dumped.removesuffix("\n").removeprefix("[").removesuffix("]")


def _dataset(found: Found, datasets: Sequence[Found], folder: Path) -> Iterator[str]:
    linked = {one.target for dataset in datasets for one in dataset.taken.values()}
    yield f"  # {found.kind}, {found.sure}: {found.why} ({_rows(found.rows)})"
    yield f"  {found.name}:"
    if found.location.files is not None:
        yield f"    files: {scalar(_relative(found.location.files, folder))}"
    else:
        schema = f"{found.location.schema}." if found.location.schema else ""
        yield f"    table: {scalar(f'{schema}{found.location.table}')}"
    if found.kind not in ("events", "items", "users") and found.name not in linked:
        yield "    watch: false  # " + (found.why if found.kind == "other" else "no events point to it")
    roles = [line for role in Role for line in _role(found, role)]
    if found.roles:
        yield "    roles:"
    # A mapping of comments alone would be no mapping.
    yield from (line if found.roles else line.replace("      # ", "    # ", 1) for line in roles)
    if found.kind == "events":
        yield from _features(found)
        for link in LINKS:
            yield from _link(found, link)
        yield from _disabled(found)
        settings = [*_rhythm(found), *_alike(found), *_placeholders(found), *_clicks(found)]
        yield from ["    checks:", *settings] if settings else []


def _role(found: Found, role: Role) -> Iterator[str]:
    made = found.roles.get(role)
    if made is not None:
        yield f"      {role}: {_column(made)}  # {made.sure}: {made.why}"
    elif found.kind == "events" and role not in (Role.COHORT, Role.VALID_FROM, Role.VALID_TO):
        yield f"      # {role}: no column found{_loss(found, role)}"
    for other in found.others.get(role, []):
        yield f"      # {role}: {_column(other)}  # {other.sure}: {other.why}"


def _column(made: Guessed) -> str:
    name, unit = scalar(made.column.name), made.column.time_unit
    is_time = made.role in (Role.EVENT_TIME, Role.INGESTED_AT, Role.VALID_FROM, Role.VALID_TO)
    return f"{{column: {name}, unit: {unit}}}" if is_time and unit not in (None, TEXT_TIME) else name


def _described(found: Found) -> Dataset:
    roles: dict[Role, str] = {role: made.column.name for role, made in found.roles.items()}
    return Dataset(found.name, dataset_table(found.name, {}), {}, roles, {}, found.features)


def _loss(found: Found, role: Role) -> str:
    """Return which checks a missing role disables, or which would see more with it."""
    without = _described(found)
    with_it = replace(without, roles={**without.roles, role: "?"})
    checks = [check(check.settings_type()) for check in CATALOGUE]
    lost = [check.id for check in checks if check.absent(without) is not None and check.absent(with_it) is None]
    if lost:
        return f"; disabled without it: {', '.join(lost)}"
    partly = [check.id for check in checks if role in check.uses and check.absent(without) is None]
    return f"; with it, {', '.join(partly)} would see more" if partly else ""


def _disabled(found: Found) -> Iterator[str]:
    described = _described(found)
    for check in CATALOGUE:
        reason = check(check.settings_type()).absent(described)
        if reason is not None and not (check.id == "click_through" and found.clicks):
            yield f"    # {check.id} is disabled: it {reason}"


def _features(found: Found) -> Iterator[str]:
    if not found.features:
        yield "    # features: []  # no column found that is neither an id, a time nor free text"
        return
    yield "    # watched for drift: numbers, and columns with few values"
    yield f"    features: [{', '.join(scalar(name) for name in found.features)}]"
    left = found.features_left_out
    if left:
        more = f", and {len(left) - MOST_NAMED:,} more" if len(left) > MOST_NAMED else ""
        yield f"    # at most {MOST_FEATURES} are chosen: the more are watched, the more drift by chance. Left out:"
        yield f"    # {', '.join(scalar(name) for name in left[:MOST_NAMED])}{more}"


def _link(found: Found, link: str) -> Iterator[str]:
    tried = found.links.get(link, [])
    role = _TABLES.get(link)
    if not tried and role in found.roles:
        yield f"    # {link}: no table found; of {role} ids, unknown_ids then tells only missing and malformed ones"
    for at, linked in enumerate(tried):
        mark = "" if at == 0 and linked.is_taken else "# "
        yield f"    {mark}{link}: {linked.target}  # {linked.sure}: {linked.why}"


def _is_alike(found: Found) -> bool:
    return found.alike_ratio > DuplicatesSettings().max_ratio


def _alike(found: Found) -> Iterator[str]:
    if _is_alike(found):
        share = f"{100 * found.alike_ratio:.3g} %"
        yield f"      # {share} of the events are like another of their day: copies cannot be told from these"
        yield "      duplicates: {enabled: false}"


def _placeholders(found: Found) -> Iterator[str]:
    if not found.placeholders_kept:
        return
    kept = ", ".join(scalar(text) for text in found.placeholders_kept)
    placeholders = [text for text in PLACEHOLDERS if text not in found.placeholders_kept]
    window = _windows(found).get("unknown_ids")
    yield "      unknown_ids:"
    yield from [f"        every: {window}", f"        window: {window}"] if window else []
    yield f"        # {kept} stands for no id elsewhere, but is an id of the table that the events point to. If it"
    yield "        # stands for 'unknown' there too, delete this and it counts as missing"
    yield f"        placeholders: [{', '.join(scalar(text) for text in placeholders)}]"


def _windows(found: Found) -> dict[str, str]:
    """Return the windows of checks whose own would hold too few rows, by check."""
    if found.rhythm is None:
        return {}
    counting = found.rhythm.window(WINDOWS, ENOUGH_ROWS)
    shapes = found.rhythm.window(LONG_WINDOWS, ENOUGH_FOR_SHAPES)
    longer = {check: counting for check in COUNTING if counting > WINDOWS[0]}
    longer |= {check: shapes for check in ("density", "feature_drift", "popularity") if shapes > LONG_WINDOWS[0]}
    # To set up a check that cannot run would be wrong.
    absent = {check.id for check in CATALOGUE if check(check.settings_type()).absent(_described(found)) is not None}
    absent |= {Duplicates.id} if _is_alike(found) else set()
    return {check: duration_text(window) for check, window in longer.items() if check not in absent}


def _rhythm(found: Found) -> Iterator[str]:
    """Yield the settings that follow from how often events come."""
    if found.rhythm is None:
        return
    rhythm, windows = found.rhythm, _windows(found)
    age, gap = rhythm.max_age(), duration_text(timedelta(seconds=round(rhythm.longest_gap.total_seconds())))
    if age > AGES[0]:
        yield f"      # the longest time without an event was {gap}"
        yield f"      freshness: {{every: {duration_text(rhythm.every())}, max_age: {duration_text(age)}}}"
    if windows:
        unit, length = ("a day", DAY) if rhythm.span >= DAY else ("an hour", HOUR)
        rows = rhythm.rows * (length / rhythm.span)
        yield f"      # {rows:,.0f} rows {unit}: shorter windows would often hold too few to judge"
    for check, window in windows.items():
        if check != "unknown_ids" or not found.placeholders_kept:
            # Windows of events follow each other; shapes are looked at every day, over the last days.
            every = (
                window if check in COUNTING else duration_text(min(rhythm.window(LONG_WINDOWS, ENOUGH_FOR_SHAPES), DAY))
            )
            yield f"      {check}: {{every: {every}, window: {window}}}"


def _clicks(found: Found) -> Iterator[str]:
    made = found.clicks
    if made is None:
        return
    shown, hit = (f"[{', '.join(map(scalar, types))}]" for types in (made.shown, made.hit))
    spans = ""
    if found.rhythm is not None:
        shown_rows = replace(found.rhythm, rows=round(found.rhythm.rows * made.share))
        window = shown_rows.window(LONG_WINDOWS, ENOUGH_FOR_SHAPES)
        if window > LONG_WINDOWS[0]:
            spans = f"every: {duration_text(window)}, window: {duration_text(window)}, "
    yield f"      # what was shown and what was clicked; {made.sure}: {made.why}"
    yield f"      click_through: {{{spans}shown_types: {shown}, hit_types: {hit}}}"


def _relative(path: str, folder: Path) -> str:
    """Return a path relative to a folder, unless the two share nothing but the root."""
    if "://" in path:
        return path
    absolute, base = os.path.abspath(path), str(folder.resolve())
    shares = os.path.commonpath([absolute, base]) != os.path.sep
    return os.path.relpath(absolute, base) if shares else absolute


def _rows(count: int) -> str:
    return f"{count:,} rows" if count < SAMPLE_ROWS else f"the first {count:,} rows looked at"
