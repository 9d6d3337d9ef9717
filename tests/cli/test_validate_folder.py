"""``recwatch validate`` of many files: read as ``run`` reads them, each by itself and all together."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from monitor.clock import ManualClock
from monitor.fleet import Fleet

Run = Callable[..., Any]
START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
CONFIG = """\
pipeline: NAME
state: sqlite:///state.db
datasets:
  events:
    files: events.csv
    roles: {event_time: at, user: u, item: i}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text("u,i,at\nann,x,2026-03-01 11:58:30\n")
    for name in ("news", "shop"):
        write(tmp_path, name)
    return tmp_path


def write(folder: Path, name: str, more: str = "", ending: str = "yml", pipeline: str = "") -> Path:
    path = folder / f"{name}.{ending}"
    path.write_text(CONFIG.replace("NAME", pipeline or name) + more)
    return path


def problems(recwatch: Run, *places: Path) -> list[str]:
    """Return what is wrong, which both forms must say alike; each exits 2."""
    options = [part for place in places for part in ("-c", str(place))]
    said, told = recwatch("validate", *options), recwatch("validate", *options, "--json")
    assert (said.code, said.out, told.code) == (2, "", 2)
    found: list[str] = json.loads(told.out)["problems"]
    assert said.err.splitlines() == found
    return found


def refused(folder: Path) -> dict[Path, str]:
    """Return what ``run`` says of the files that it does not run."""
    fleet = Fleet([folder], ManualClock(START))
    found = {path: broken.problem for path, broken in fleet.broken.items()}
    fleet.stop()
    return found


def test_a_good_folder_is_one_line(recwatch: Run, folder: Path) -> None:
    write(folder, "ads", ending="yaml")
    (folder / "notes.txt").write_text("no configuration")
    done = recwatch("validate", "-c", str(folder))
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    assert done.out.startswith(f"{folder}: 3 configurations are fine, alone and together; at most ")
    assert not list(folder.glob("state.db*")), "nothing is opened"
    done = recwatch("validate", "-c", str(folder), "--json")
    assert (done.code, json.loads(done.out)) == (0, {"problems": [], "notes": []})
    one = folder / "one"
    one.mkdir()
    write(one, "solo")
    (one / "events.csv").write_text("u,i,at\n")
    assert recwatch("validate", "-c", str(one)).out.startswith(f"{one}: 1 configuration is fine; at most ")


def test_every_problem_of_every_file_is_listed_with_its_place(recwatch: Run, folder: Path) -> None:
    news = write(folder, "news", "checks: {freshness: {max_age: soon}, densty: {}}\n")
    broken = folder / "ads.yml"
    broken.write_text("pipeline: [")
    found = problems(recwatch, folder)
    assert len(found) == 3
    assert found[0].startswith(f"{broken}:1:")
    assert any(one.startswith(f"{news}:7:22: checks.freshness.max_age: ") and "got soon" in one for one in found)
    assert any(one.startswith(f"{news}:7:") and "did you mean density?" in one for one in found)


def test_notes_name_their_file(recwatch: Run, folder: Path) -> None:
    shop = write(folder, "shop", "checks: {feature_drift: {bins: 5}}\n")
    done = recwatch("validate", "-c", str(folder))
    note = f"{shop}: checks.feature_drift has no effect: no watched dataset can run it, it needs features:"
    assert done.code == 0
    assert f"note: {note}" in done.out
    told = json.loads(recwatch("validate", "-c", str(folder), "--json").out)
    assert [one.startswith(note) for one in told["notes"]] == [True]


def test_a_name_that_two_files_have_is_refused_as_run_refuses_it(recwatch: Run, folder: Path) -> None:
    copy = write(folder, "zcopy", pipeline="shop")
    found = problems(recwatch, folder)
    assert found == [
        f"{copy}: pipeline: must be unlike that of {folder / 'shop.yml'}, got shop; rename one of them",
    ]
    assert refused(folder) == {copy: found[0]}


def test_two_files_without_a_name_have_the_same(recwatch: Run, folder: Path) -> None:
    for name in ("news", "shop"):
        write(folder, name).write_text(CONFIG.replace("pipeline: NAME\n", ""))
    found = problems(recwatch, folder)
    assert [": must be unlike that of" in one and "got default" in one for one in found] == [True]
    assert refused(folder) == {folder / "shop.yml": found[0]}


def test_a_name_is_taken_by_a_file_that_is_wrong_otherwise(recwatch: Run, folder: Path) -> None:
    """Who mends one problem must not meet the next one then."""
    alike = f"pipeline: must be unlike that of {folder / 'shop.yml'}, got shop; rename one of them"
    copy = write(folder, "zcopy", "checks: {densty: {}}\n", pipeline="shop")
    found = problems(recwatch, folder)
    assert len(found) == 2
    assert found[1] == f"{copy}: {alike}"
    write(folder, "shop", "checks: {densty: {}}\n")
    write(folder, "zcopy", pipeline="shop")
    found = problems(recwatch, folder)
    assert len(found) == 2
    assert found[1] == f"{copy}: {alike}"


def test_servers_that_differ_are_refused_as_run_refuses_them(recwatch: Run, folder: Path) -> None:
    news = write(folder, "news", "server: {port: 0}\n")
    shop = write(folder, "shop", "server: {port: 9999}\n")
    found = problems(recwatch, folder)
    assert found[0].startswith(f"{shop}: server: must be that of {news}: ")
    assert refused(folder) == {shop: found[0]}
    write(folder, "shop", "server: {port: 0}\n")
    assert recwatch("validate", "-c", str(folder)).code == 0


def test_strangers_are_noted_once_for_the_one_server(recwatch: Run, folder: Path) -> None:
    write(folder, "shop", "server: {host: 0.0.0.0}\n")
    told = json.loads(recwatch("validate", "-c", str(folder), "--json").out)
    assert [note.startswith("server: whoever reaches 0.0.0.0 sees") for note in told["notes"]] == [True]


def test_too_many_series_are_a_problem_of_their_file_in_both_forms(recwatch: Run, folder: Path) -> None:
    shop = write(folder, "shop", "limits: {max_series: 100}\n")
    for place in (folder, shop):
        found = problems(recwatch, place)
        assert [one.startswith(f"{shop}:7:10: limits.max_series: must be at least ") for one in found] == [True]


def test_files_by_name_and_folders_without_any(recwatch: Run, folder: Path) -> None:
    news, shop = folder / "news.yml", folder / "shop.yml"
    done = recwatch("validate", "-c", str(news), "-c", str(shop))
    assert (done.code, done.out.split(";")[0]) == (0, f"{news}, {shop}: 2 configurations are fine, alone and together")
    missing = folder / "mising.yml"
    found = problems(recwatch, shop, missing)
    assert [one.startswith(f"{missing}: no such file") for one in found] == [True]
    empty = folder / "empty"
    empty.mkdir()
    assert problems(recwatch, empty) == [f"{empty}: no configuration is here; add a file that ends in .yml"]


def test_a_secret_of_a_wrong_file_is_not_shown(recwatch: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE", "nosuch://u:canary@db/x")
    write(folder, "shop", "engines: {db: {url: '${WAREHOUSE}'}}\n")
    found = problems(recwatch, folder)
    assert any("engines.db" in one for one in found)
    assert "canary" not in "".join(found)
