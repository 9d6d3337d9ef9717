"""Commands that a command prints to be pasted: they are about the same file, wherever that is."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

Recwatch = Callable[..., Any]
NOW = datetime.now(UTC)
CONFIG = """\
state: sqlite:///state.db
datasets:
  events:
    files: events.csv
    roles: {event_time: at, user: user, item: item}
checks:
  popularity: {min_rows: 100}
  ingestion: {enabled: false}
  density: {enabled: false}
  contract: {enabled: false}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my shop's"
    folder.mkdir()
    rows = [f"u{n % 9},i{n % 7},{NOW - timedelta(hours=2, seconds=n):%FT%T}" for n in range(200)]
    (folder / "events.csv").write_text("\n".join(("user,item,at", *rows)))
    (folder / "shop.yml").write_text(CONFIG)
    return folder


@pytest.mark.parametrize(
    ("asked", "before", "follows", "then"),
    [
        ("silence add --slo * --for 2h --reason x", "end it with: ", "silence end 1", "silence 1 has ended"),
        ("baseline pin", "see ", "baseline show", "check"),
        ("silence end 7", "see ", "silence list", "nothing is silenced"),
        ("notify deploy 'ios 8.3.0'", "triage alone with: ", "event add 'ios 8.3.0'", ""),
        ("check --all", "build one with: ", "baseline build", "popularity on events: reference"),
        ("explain popularity", "so less is read; ", "baseline build", "popularity on events: reference"),
    ],
)
def test_what_is_printed_can_be_pasted(
    asked: str, before: str, follows: str, then: str, recwatch: Recwatch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    named = shlex.join(("-c", f"{folder.name}/shop.yml"))
    said = recwatch(*shlex.split(f"{asked} {named}"))
    assert f"{before}recwatch {follows} {named}" in said.out + said.err
    pasted = recwatch(*shlex.split(f"{follows} {named}"))
    assert (pasted.code, then in pasted.out) == (0, True), pasted


def test_what_init_wrote_is_checked_next(recwatch: Recwatch, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    missing = recwatch("check", "-c", "a shop.yml")
    assert missing.err.endswith("write one with: recwatch init PATH_OR_URL -o 'a shop.yml'\n")
    written = recwatch("init", "events.csv", "-o", "a shop.yml")
    assert written.out.endswith("next: recwatch check --all -c 'a shop.yml'\n")
    assert recwatch("check", "--all", "-c", "a shop.yml").code == 0


def test_times_that_are_none_are_looked_at_by_the_doctor(recwatch: Recwatch, folder: Path) -> None:
    path = folder / "shop.yml"
    path.write_text(CONFIG.replace("event_time: at", "event_time: {column: n, unit: s}"))
    (folder / "events.csv").write_text("user,item,n\nu1,i1,1\nu2,i2,2\n")
    command = f"doctor -c {shlex.quote(str(path))}"
    assert f"; recwatch {command} says what it holds\n" in recwatch("check", "--all", "-c", str(path)).err
    assert "column n (role event_time) holds" in recwatch(*shlex.split(command)).out
