"""Writes a commented configuration from what was guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from checks import CATALOGUE
from checks.dataset import Dataset, Role, TimeUnit, dataset_table
from checks.unknown_ids import PLACEHOLDERS
from monitor.guess import MOST_FEATURES, Found, Guessed

PASSWORD_VARIABLE = "RECWATCH_DATABASE_URL"  # noqa: S105 - the name of a variable, not a password


def compose(pipeline: str, engines: Mapping[str, str], datasets: Sequence[Found], folder: Path) -> str:
    """Return the text of a configuration.

    Args:
        pipeline: Name of the pipeline.
        engines: URL by name; one with a password is replaced by a reference to the environment.
        datasets: What was found.
        folder: Where the file will lie; paths are written relative to it.
    """
    lines = [
        "# Written by recwatch init from a look at the data. Each guess says how sure it is, and why.",
        "# Check it with: recwatch validate    Look at the data with it: recwatch check --all",
        f"pipeline: {quoted(pipeline)}",
    ]
    for name, url in engines.items():
        lines += ["", "engines:", f"  {name}:", f"    url: {quoted(engine_url(url))}"]
    lines += ["", "datasets:"]
    order = {"events": 0, "items": 1, "users": 2, "sent": 3, "rejected": 4}
    for found in sorted(datasets, key=lambda dataset: (order.get(dataset.kind, 9), dataset.name)):
        lines += _dataset(found, folder)
    return "\n".join(lines) + "\n"


def engine_url(url: str) -> str:
    """Return a URL as the file may hold it: never with a password."""
    return f"${{{PASSWORD_VARIABLE}}}" if has_password(url) else url


def has_password(url: str) -> bool:
    """Return whether a URL carries a password."""
    authority = url.partition("://")[2].partition("/")[0]
    return "@" in authority and ":" in authority.rpartition("@")[0]


def quoted(text: str) -> str:
    """Return a text as a YAML scalar."""
    is_plain = text.replace("_", "").replace("-", "").isalnum() and not text[0].isdigit()
    return (
        text
        if is_plain and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off")
        else json.dumps(text)
    )


def _dataset(found: Found, folder: Path) -> Iterator[str]:
    yield f"  {found.name}:  # {found.kind}, {_rows(found.rows)}"
    for key, value in found.place.items():
        yield f"    {key}: {quoted(_relative(value, folder) if key == 'files' else value)}"
    if found.kind == "other":
        yield "    watch: false  # nothing here tells users, items and times apart"
    if found.roles:
        yield "    roles:"
        for role in Role:
            if role in found.roles:
                yield from _role(found.roles[role], found.others.get(role, []))
    if found.kind != "events":
        return
    yield from _missing(found)
    if found.features:
        left = f"  # {found.features_left_out} more could be added" if found.features_left_out else ""
        yield f"    features: [{', '.join(quoted(name) for name in found.features)}]{left}"
        if found.features_left_out:
            yield f"    # at most {MOST_FEATURES} are chosen: the more are watched, the more drift by chance"
    for link, (target, why) in found.links.items():
        yield f"    {link}: {target}  # {why}"
    if found.placeholders_kept:
        kept = ", ".join(found.placeholders_kept)
        placeholders = [text for text in PLACEHOLDERS if text not in found.placeholders_kept]
        yield "    checks:"
        yield "      unknown_ids:"
        yield f"        # {kept} stands for no id elsewhere, but is a real id in this catalogue"
        yield f"        placeholders: {json.dumps(placeholders)}"


def _role(guess: Guessed, others: Sequence[str]) -> Iterator[str]:
    unit = guess.column.time_unit if "time" in guess.role or guess.role in (Role.INGESTED_AT,) else None
    is_time = guess.role in (Role.EVENT_TIME, Role.INGESTED_AT, Role.VALID_FROM, Role.VALID_TO)
    value = quoted(guess.column.name)
    if is_time and unit is not None:
        value = f"{{column: {value}, unit: {unit}}}"
    yield f"      {guess.role}: {value}  # {guess.sure}: {guess.why}"
    for name in others:
        yield f"      # {guess.role}: {quoted(name)}"


def _missing(found: Found) -> Iterator[str]:
    """Say which checks a missing role leaves out."""
    roles: dict[Role, str] = {role: guess.column.name for role, guess in found.roles.items()}
    described = Dataset(found.name, dataset_table(found.name, {}), {}, roles, dict[Role, TimeUnit](), found.features)
    for check in CATALOGUE:
        reason = check(check.settings_type()).absent(described)
        if reason is not None:
            yield f"    # {check.id} is disabled: it {reason}"


def _relative(path: str, folder: Path) -> str:
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute, folder.resolve())
    return absolute if relative.count("..") > 2 else relative


def _rows(count: int) -> str:
    from monitor.survey import SAMPLE_ROWS

    return f"{count:,} rows" if count < SAMPLE_ROWS else f"{count:,} rows or more"
