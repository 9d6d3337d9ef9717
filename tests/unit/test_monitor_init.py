"""``recwatch init`` on files and databases: what it finds, writes and refuses."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from checks.dataset import Role
from checks.window import Window
from monitor.clock import SystemClock
from monitor.compose import has_secret, scalar
from monitor.config import Config
from monitor.faults import Fault
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
EVENTS = "user_id,item_id,ts"
Recwatch = Callable[..., Any]


def csv(path: Path, head: str, rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((head, *rows)) + "\n", encoding="utf-8")


def events(count: int = 200) -> list[str]:
    return [f"u{n % 12},i{n % 7},2026-03-03T12:00:{n % 60:02}" for n in range(count)]


@pytest.fixture
def init(recwatch: Recwatch, tmp_path: Path) -> Callable[..., Config]:
    """Write a configuration for a target below the temporary folder, and load it."""

    def run(target: str = "shop", *options: str) -> Config:
        path = tmp_path / "recwatch.yml"
        said = recwatch("init", target if "://" in target else str(tmp_path / target), "-o", str(path), *options)
        assert said.code == 0, said
        assert recwatch("validate", "-c", str(path)).code == 0
        return load(path)

    return run


def written(folder: Path, dataset: str) -> Mapping[str, Any]:
    """Return the settings of checks that were written for a dataset."""
    config = yaml.safe_load((folder / "recwatch.yml").read_text())
    settings: Mapping[str, Any] = config["datasets"][dataset].get("checks", {})
    return settings


def details(config: Config, check: str, entity: str | None = None) -> Mapping[str, Any]:
    """Run one check over a day of the events, and return its details."""
    pipeline = build(config)
    chosen = [found for found in pipeline.checks["events"] if found.id == check]
    day = Window(START, START + timedelta(days=1))
    judged = Runner(pipeline, None, SystemClock()).run("events", [(chosen[0], day)])
    pipeline.close()
    verdict = next(verdict for verdict in judged[0].verdicts if verdict.entity == entity)
    return {"total": verdict.total, **verdict.details}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    stream = Stream(StreamSettings(events_per_second=20, users=2_000, items=300))
    fault = Fault("rejects", START, START + timedelta(minutes=1))
    writer = LiveWriter(stream, tmp_path / "shop", START, faults=(fault,))
    for minute in range(1, 4):
        writer.advance(START + timedelta(minutes=minute))
    return tmp_path / "shop"


def test_a_folder_becomes_a_configuration_that_runs(recwatch: Recwatch, shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    said = recwatch("init", str(shop), "-o", str(path))
    assert said.code == 0, said.err
    assert "events: events, sure: it has users, items and times" in said.out
    config = load(path)
    assert config.watched() == ["events"]
    found = config.datasets["events"]
    assert found.links == {"users": "users", "items": "items", "sent": "sent", "rejected": "rejected"}
    assert {role.value for role in found.roles} == {
        "event_id", "user", "item", "event_type", "event_time", "ingested_at", "value", "source",
    }  # fmt: skip
    assert set(found.features) >= {"device", "app_version", "position"}
    text = path.read_text()
    assert "files: shop/events/*.parquet" in text
    assert "user: user_id  # sure: its name says so" in text
    assert recwatch("validate", "-c", str(path)).code == 0
    assert recwatch("check", "-c", str(path), "--all").code in (0, 1)


def test_click_through_is_set_up_where_the_events_tell_of_clicks(
    init: Callable[..., Config], recwatch: Recwatch, tmp_path: Path
) -> None:
    rows = [f"{row},{'true' if n % 9 == 0 else 'false'}" for n, row in enumerate(events(600))]
    csv(tmp_path / "shop" / "impressions.csv", f"{EVENTS},clicked", rows)
    init()
    assert written(tmp_path, "impressions")["click_through"] == {
        "shown_types": ["false", "true"],
        "hit_types": ["true"],
    }
    said = recwatch("check", "--all", "--json", "-c", str(tmp_path / "recwatch.yml")).out
    rate = next(found for line in said.splitlines() if (found := json.loads(line))["check"] == "click_through")
    assert (rate["details"]["shown"], rate["details"]["hits"]) == (600, 67)


def test_what_the_looks_of_init_cannot_read_is_left_alone(init: Callable[..., Config], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "events.sqlite")) as connection:
        connection.execute("CREATE TABLE events (user_id INT, item_id INT, ts TEXT, event_type TEXT)")
        rows = [(n % 9, n % 7, f"2026-03-03T12:00:{n % 60:02}", b"view" if n % 5 else "click") for n in range(300)]
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    assert "events" in init("events.sqlite").datasets


def test_windows_of_click_through_hold_enough_of_what_is_shown(init: Callable[..., Config], tmp_path: Path) -> None:
    rows = [
        f"u{n % 50},i{n % 7},2026-03-0{1 + n % 5}T{n % 24:02}:00:00,{'view' if n % 4 else 'click'}"
        for n in range(3_000)
    ]
    csv(tmp_path / "shop" / "log.csv", f"{EVENTS},event", rows)
    init()
    assert written(tmp_path, "log")["click_through"] == {
        "every": "7d", "window": "7d", "shown_types": ["view"], "hit_types": ["click"],
    }  # fmt: skip


@pytest.mark.parametrize("time", ["", "T00:00:00", "T23:00:00Z"])
def test_events_of_a_day_without_ids_are_not_taken_for_copies(
    init: Callable[..., Config], tmp_path: Path, time: str
) -> None:
    rows = [f"u{n % 12},i{n % 3},2026-03-{1 + n // 60:02}{time}" for n in range(600)]
    csv(tmp_path / "days" / "orders.csv", EVENTS, rows)
    init("days")
    assert written(tmp_path, "orders")["duplicates"] == {"enabled": False}
    assert "are like another of their day" in (tmp_path / "recwatch.yml").read_text()
    rows = [f"u{n % 12},i{n % 3},2026-03-{1 + n // 60:02}T00:00:{n % 60:02}" for n in range(600)]
    csv(tmp_path / "days" / "orders.csv", EVENTS, [*rows, *rows])
    init("days", "--force")
    assert "enabled" not in written(tmp_path, "orders")["duplicates"], "these may be copies"
    rows = [f"u{n},i{n % 7},2026-03-{1 + n // 60:02}" for n in range(600)]
    csv(tmp_path / "days" / "orders.csv", EVENTS, rows)
    init("days", "--force")
    assert "enabled" not in written(tmp_path, "orders")["duplicates"]


def test_a_file_that_is_there_is_kept(recwatch: Recwatch, tmp_path: Path) -> None:
    csv(tmp_path / "events.csv", EVENTS, events())
    path = tmp_path / "recwatch.yml"
    path.write_text("mine")
    said = recwatch("init", str(tmp_path), "-o", str(path))
    assert (said.code, path.read_text()) == (2, "mine")
    assert "is there already" in said.err
    assert recwatch("init", str(tmp_path), "-o", str(path), "--force").code == 0
    assert path.read_text() != "mine"


def test_a_look_that_fails_leaves_the_old_file(recwatch: Recwatch, tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text("mine")
    assert recwatch("init", str(tmp_path / "nowhere"), "-o", str(path), "--force").code == 3
    assert path.read_text() == "mine"


LAYOUTS = {
    "single files": (["events.csv", "items.csv"], {"events": "shop/events.csv", "items": "shop/items.csv"}),
    "a folder each": (["events/a1.csv", "events/b2.csv"], {"events": "shop/events/*.csv"}),
    "parts": (["events/part-0001.csv", "events/part-0002.csv"], {"events": "shop/events/*.csv"}),
    "dated names": (["events_2026-03-01.csv", "events_2026-03-02.csv"], {"events": "shop/events*.csv"}),
    "days without a dash": (["events20260301.csv", "events20260302.csv"], {"events": "shop/events*.csv"}),
    "numbers without a dash": (["h052.csv", "h053.csv", "h2.csv"], {"h": "shop/h[0-9][0-9]*.csv", "h2": "shop/h2.csv"}),
    "only one of them": (["events_2026-03-01.csv"], {"events": "shop/events_2026-03-01.csv"}),
    "a name that begins alike": (
        ["items-1.csv", "items-2.csv", "items_extra.csv", "events.csv"],
        {"items": "shop/items[-_.][0-9]*.csv", "items_extra": "shop/items_extra.csv", "events": "shop/events.csv"},
    ),
    "days as folders": (
        ["events/date=2026-03-01/x.csv", "events/date=2026-03-02/y.csv"],
        {"events": "shop/events/**/*.csv"},
    ),
    "folders in folders": (["raw/2026/events/a.csv"], {"raw": "shop/raw/**/*.csv"}),
    "a folder among folders": (["lake/raw/events/a.csv"], {"events": "shop/lake/raw/events/*.csv"}),
    "zipped": (["events-1.csv.gz", "events-2.csv.gz"], {"events": "shop/events*.csv.gz"}),
    "one name twice": (["events.csv", "Events.tsv"], {"events": "shop/events.csv", "events_2": "shop/Events.tsv"}),
    "hidden": (["events.csv", ".events.csv", "_tmp/events.csv"], {"events": "shop/events.csv"}),
    "odd characters": (["ev[1]/events.csv"], {"ev_1": "shop/ev[[]1]/*.csv"}),
    "the folder itself": (["date=2026-03-01/x.csv", "date=2026-03-02/x.csv"], {"shop": "shop/**/*.csv"}),
    "numbers only": (["0.csv", "1.csv"], {"shop": "shop/*.csv"}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_grouped_by_their_names(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monitor.targets import files

    names, expected = LAYOUTS[layout]
    for name in names:
        csv(tmp_path / "shop" / name, EVENTS, events(3))
    monkeypatch.chdir(tmp_path)
    locations, notes = files("shop", lambda path: frozenset({"user_id"}))
    where = {location.name: str(location.files) for location in locations}
    assert where == expected
    assert notes == []


@pytest.mark.parametrize(("hours", "says"), [(5, "40 rows an hour"), (48, "100 rows a day")])
def test_how_often_events_come_is_said(init: Callable[..., Config], tmp_path: Path, hours: int, says: str) -> None:
    every = timedelta(hours=hours) / 200
    csv(tmp_path / "shop/events.csv", EVENTS, [f"u{n % 12},i{n % 7},{START + n * every:%FT%T}" for n in range(201)])
    init()
    assert f"# {says}: shorter windows would often hold too few" in (tmp_path / "recwatch.yml").read_text()


def test_files_of_a_folder_that_differ_are_not_mixed(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/raw/events.csv", EVENTS, events())
    csv(tmp_path / "shop/raw/items.csv", "item_id,price", [f"i{n},{n}" for n in range(7)])
    config = init()
    assert set(config.datasets) == {"events", "items"}
    assert config.datasets["events"].items == "items"


def test_a_broken_file_is_left_out_and_named(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/events.csv", EVENTS, events())
    (tmp_path / "shop/items.parquet").write_bytes(b"no Parquet")
    assert set(init().datasets) == {"events"}
    text = (tmp_path / "recwatch.yml").read_text()
    assert "# left out: engine files: files" in text
    assert "items.parquet" in text


def test_paths_are_relative_to_the_file(recwatch: Recwatch, tmp_path: Path) -> None:
    csv(tmp_path / "lake/shop/events.csv", EVENTS, events())
    (tmp_path / "etc/watch").mkdir(parents=True)
    path = tmp_path / "etc/watch/recwatch.yml"
    assert recwatch("init", str(tmp_path / "lake/shop"), "-o", str(path)).code == 0
    assert "files: ../../lake/shop/events.csv" in path.read_text()
    assert recwatch("check", "-c", str(path), "--all", "--only", "contract").code == 0


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_database_is_found_from_the_folder_of_the_file(
    kind: str, recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL that was given is relative to where the command ran, whatever the folders are called."""
    tmp_path /= "Räume 50%25"
    (tmp_path / "etc").mkdir(parents=True)
    (tmp_path / "lake").mkdir()
    statements = (
        'CREATE TABLE "User Events" (user_id TEXT, item_id TEXT, created_at TIMESTAMP)',
        "INSERT INTO \"User Events\" VALUES ('007', '1', '2026-03-03 12:00:00'), ('7', '1', '2026-03-03 12:00:01')",
    )
    connect: Any = sqlite3.connect if kind == "sqlite" else duckdb.connect
    with closing(connect(str(tmp_path / "lake/shop.db"))) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    monkeypatch.chdir(tmp_path / "lake")
    path = tmp_path / "etc/recwatch.yml"
    assert recwatch("init", f"{kind}:///shop.db", "-o", str(path)).code == 0
    assert f"url: {kind}:///../lake/shop.db" in path.read_text().replace("'", "")
    monkeypatch.chdir(tmp_path)
    config = load(path)
    assert config.pipeline == "shop"
    assert config.datasets["user_events"].table == "User Events"
    assert recwatch("check", "-c", str(path), "--all", "--only", "contract").code == 0


def test_a_table_and_a_dataset_may_differ_in_case_only(init: Callable[..., Config], tmp_path: Path) -> None:
    """DuckDB knows no case: a view by the dataset's name must not stand before the table it reads."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute(
            "CREATE TABLE \"Events\" AS SELECT 'u' || n user_id, n % 3 item_id, now() ts FROM range(9) t(n)"
        )
        database.execute('CREATE SCHEMA "other"')
        database.execute('CREATE TABLE "other".events AS FROM "Events"')
    config = init("shop.duckdb")
    assert {name: found.table for name, found in config.datasets.items()} == {
        "events": "Events", "other_events": "other.events",
    }  # fmt: skip


def test_ids_survive_csv_exactly(init: Callable[..., Config], tmp_path: Path) -> None:
    """Beyond the rows that DuckDB guesses the types from, too; and as 20 digits."""
    rows = [f"{12345678901234567890 + n % 4},{n % 9},2026-03-03T12:00:{n % 60:02}" for n in range(30_000)]
    csv(tmp_path / "shop/events.csv", EVENTS, [*rows, *["12345678901234567890,007,2026-03-03T12:00:00"] * 66])
    csv(tmp_path / "shop/items.csv", "item_id", [str(n) for n in range(9)])
    config = init()
    assert config.datasets["events"].items == "items"
    assert details(config, "unknown_ids", "item")["causes"]["unknown"] == 66, "007 is not 7"
    assert details(config, "density")["users"] == 4, "as floating point numbers they are one"
    assert details(config, "density")["items"] == 10


def test_ids_with_leading_zeros_survive_csv(init: Callable[..., Config], tmp_path: Path) -> None:
    rows = [f"{n % 12:03},{7 + n % 3:05},2026-03-03T12:00:{n % 60:02}" for n in range(200)]
    csv(tmp_path / "shop/events.csv", EVENTS, rows)
    csv(tmp_path / "shop/items.csv", "item_id", ["00007", "00008", "9"])
    found = details(init(), "unknown_ids", "item")
    assert found["causes"]["unknown"] == 66, "00009 is not 9"
    assert found["distinct_unknown"] == 1


def test_ids_survive_in_files_cut_by_hour(init: Callable[..., Config], tmp_path: Path) -> None:
    """A column that stands in the path is given no type: that would be an error of DuckDB's own."""
    for hour in ("01", "02"):
        csv(tmp_path / f"shop/events/hour={hour}/x.csv", EVENTS, [row.replace("u", "0") for row in events()])
    assert details(init(), "density")["users"] == 12


def test_an_id_may_stand_in_the_path(init: Callable[..., Config], tmp_path: Path) -> None:
    for item in ("5", "6"):
        csv(tmp_path / f"shop/events/item_id={item}/x.csv", "user_id,ts", ["u1,2026-03-03T12:00:00"])
    assert details(init(), "density")["items"] == 2


def test_files_without_a_header_are_read_whole(tmp_path: Path) -> None:
    """All columns of such a file may be ids: no type then tells that its first row is none of names."""
    csv(tmp_path / "shop/events.csv", EVENTS, [row.replace("i", "") for row in events()])
    csv(tmp_path / "shop/items.csv", "0", [str(n) for n in range(1, 7)])
    path = tmp_path / "recwatch.yml"
    roles = "{user: user_id, item: item_id, event_time: ts}"
    path.write_text(
        f"datasets:\n  events: {{files: shop/events.csv, roles: {roles}, items: items, "
        "checks: {unknown_ids: {placeholders: []}}}\n"
        "  items: {files: shop/items.csv, roles: {item: column0}}\n"
    )
    assert sum(details(load(path), "unknown_ids", "item")["causes"].values()) == 0


def test_ids_in_json_keep_their_case(init: Callable[..., Config], tmp_path: Path) -> None:
    user = "6F9619FF-8B86-D011-B42D-00CF4FC964F{}"
    rows = [
        {"user_id": user.format(n % 5), "item_id": f"{n % 3}", "ts": f"2026-03-03T12:00:0{n % 9}Z", "n": {"x": 1}}
        for n in range(60)
    ]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    csv(tmp_path / "shop/users.csv", "user_id", [user.format(n) for n in range(4)])
    found = details(init(), "unknown_ids", "user")
    assert found["causes"]["unknown"] == 12


def test_json_lines_and_databases(recwatch: Recwatch, tmp_path: Path) -> None:
    lines = [
        {"userId": -n, "productId": f"p{n % 9}", "when": 1_772_539_200_000 + n, "app": "ios"} for n in range(1, 90)
    ]
    (tmp_path / "clicks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE clicks (user_id INTEGER, product_id TEXT, at INTEGER)")
        connection.executemany(
            "INSERT INTO clicks VALUES (?, ?, ?)", [(row["userId"], row["productId"], row["when"]) for row in lines]
        )
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute("CREATE TABLE clicks AS SELECT * FROM read_json(?)", [str(tmp_path / "clicks.jsonl")])
    for target in ("clicks.jsonl", "shop.sqlite", "shop.duckdb"):
        path = tmp_path / f"{target}.yml"
        assert recwatch("init", str(tmp_path / target), "-o", str(path)).code == 0
        roles = load(path).datasets["clicks"].roles
        assert {Role.USER, Role.ITEM, Role.EVENT_TIME} <= set(roles)
        assert "unit: ms" in path.read_text()
        assert recwatch("check", "--all", "-c", str(path)).code in (0, 1)


def catalogue(tmp_path: Path, created: str) -> None:
    csv(tmp_path / "shop/events.csv", EVENTS, events())
    csv(tmp_path / "shop/items.csv", "item_id,created_at", [f"i{n},{created}" for n in range(7)])


def test_a_life_that_the_events_bear_out_is_taken(init: Callable[..., Config], tmp_path: Path) -> None:
    catalogue(tmp_path, "2026-01-01T00:00:00")
    assert init().datasets["items"].roles[Role.VALID_FROM] == "created_at"


def test_a_life_that_contradicts_the_events_is_not_taken(init: Callable[..., Config], tmp_path: Path) -> None:
    """Such as the time at which a table was loaded: every event would be unknown."""
    catalogue(tmp_path, "2026-06-01T00:00:00")
    assert Role.VALID_FROM not in init().datasets["items"].roles
    text = (tmp_path / "recwatch.yml").read_text()
    assert "# valid_from: created_at  # a guess: not taken: 100 % of the events of these ids come before it" in text


def test_of_two_tables_the_one_with_the_ids_is_taken(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/events.csv", EVENTS, events())
    csv(tmp_path / "shop/articles.csv", "item_id", [f"a{n}" for n in range(7)])
    csv(tmp_path / "shop/products.csv", "id,name", [f"i{n},thing {n}" for n in range(7)])
    assert init().datasets["events"].items == "products"
    assert "# items: articles  # a guess: only 0 % of the events" in (tmp_path / "recwatch.yml").read_text()


def test_of_two_tables_with_all_ids_the_one_with_the_name_is_taken(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/ratings.csv", EVENTS, events())
    csv(tmp_path / "shop/links.csv", "item_id,imdbId", [f"i{n},{n}" for n in range(7)])
    csv(tmp_path / "shop/movies.csv", "item_id,title", [f"i{n},Film {n}" for n in range(7)])
    assert init().datasets["ratings"].items == "movies"


def test_placeholders_say_nothing_about_a_table(init: Callable[..., Config], tmp_path: Path) -> None:
    """A client that drops most ids does not make a table of items another's."""
    dropped = [row.replace(row.split(",")[1], "undefined") if n % 4 else row for n, row in enumerate(events())]
    csv(tmp_path / "shop/events.csv", EVENTS, dropped)
    csv(tmp_path / "shop/items.csv", "item_id", [f"i{n}" for n in range(7)])
    assert init().datasets["events"].items == "items"
    assert "items: items  # sure: 100 %" in (tmp_path / "recwatch.yml").read_text()


def test_placeholders_that_are_real_ids_are_kept(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/events.csv", EVENTS, [row.replace("i", "") for row in events()])
    csv(tmp_path / "shop/items.csv", "item_id", [str(n) for n in range(7)])
    config = init()
    settings = config.datasets["events"].checks.unknown_ids  # type: ignore[attr-defined]
    assert "0" not in settings.placeholders
    assert {"-1", "null"} <= set(settings.placeholders)
    assert details(config, "unknown_ids", "item")["causes"]["missing"] == 0


def test_what_the_model_knows_is_found(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/events.csv", EVENTS, events())
    csv(tmp_path / "shop/item_embeddings.csv", "item_id,x", [f"i{n},0.{n}" for n in range(5)])
    assert init().datasets["events"].item_vocabulary == "item_embeddings"


def test_stages_belong_to_the_events_of_their_name(init: Callable[..., Config], tmp_path: Path) -> None:
    for name in ("clicks", "views", "clicks_rejected", "views_rejected"):
        csv(tmp_path / f"shop/{name}.csv", EVENTS, events())
    config = init()
    assert {name: config.datasets[name].rejected for name in ("clicks", "views")} == {
        "clicks": "clicks_rejected", "views": "views_rejected",
    }  # fmt: skip
    assert config.watched() == ["clicks", "views"]


def test_missing_roles_say_what_they_disable(init: Callable[..., Config], tmp_path: Path) -> None:
    csv(tmp_path / "shop/impressions.csv", "item_id,ts", [row.partition(",")[2] for row in events()])
    init()
    text = (tmp_path / "recwatch.yml").read_text()
    assert "# user: no column found; disabled without it: duplicates, density" in text
    assert "# event_id: no column found; disabled without it: duplicates" in text
    assert "# density is disabled: it needs the role user" in text


def test_odd_names_are_written_so_that_they_are_read_again(init: Callable[..., Config], tmp_path: Path) -> None:
    names = ["x\ny: 1", "-1", "yes", "😀", "a, b", "# c", "null", "'q\"", "${HOME}"]
    head = ",".join([EVENTS, *('"' + name.replace('"', '""') + '"' for name in names)])
    csv(
        tmp_path / "shop/events.csv",
        head,
        [f"{row},{','.join(str(n % 3) for _ in names)}" for n, row in enumerate(events())],
    )
    assert list(init().datasets["events"].features) == names[:-1]


@given(st.text())
@example("x" * 200 + "\ny")
def test_any_text_is_one_scalar_on_one_line(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    written = scalar(text)
    assert len(written.splitlines()) == 1
    assert yaml.safe_load(f"a: {written}  # said") == {"a": text}
    assert yaml.safe_load(f"[{written}, {written}]") == [text, text]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://watch:canary@db/shop", True),
        ("postgresql://watch@db/shop?password=canary", True),
        ("duckdb:///md:shop?motherduck_token=canary", True),
        ("postgresql://watch@db/shop?sslmode=require", False),
        ("sqlite:///shop.db", False),
    ],
)
def test_secrets_of_a_url_are_seen(url: str, expected: bool) -> None:
    assert has_secret(url) is expected


def test_a_secret_is_written_as_a_reference(tmp_path: Path) -> None:
    from monitor.compose import compose
    from monitor.survey import Survey

    text = compose("shop", Survey("postgresql://watch@db/shop?password=canary", [], []), tmp_path)
    assert "canary" not in text
    assert yaml.safe_load(text)["engines"]["database"]["url"] == "${RECWATCH_DATABASE_URL}"


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("nowhere", 3, "no such file or folder"),
        ("nowhere/*.parquet", 3, "no such file or folder"),
        ("notes.txt", 3, "the ending says no format"),
        ("empty", 3, "holds no file that can be read"),
        ("broken.parquet", 3, "broken.parquet"),
        ("sqlite:///nowhere.db", 3, "no such database file"),
        ("empty.sqlite", 3, "holds no table"),
        ("postgresql+psycopg://watch:canary@127.0.0.1:1/none", 3, "cannot be reached"),
        ("hive://watch:canary@127.0.0.1:1/none", 3, "cannot be reached"),
        ("postgresql+psycopg://watch@127.0.0.1:1/none?password=canary", 3, "cannot be reached"),
        ("postgresql+asyncpg://watch:canary@127.0.0.1:1/none", 2, "no such driver"),
        ("oracle://watch:canary@db/shop", 2, "no support for it; use one of"),
        ("not a url://watch:canary@db", 2, "is no URL of a database"),
        ("plain.csv", 2, "nothing here looks like events"),
    ],
)
def test_what_cannot_be_read_is_said(
    recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, code: int, says: str
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "plain.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.parquet").write_text("hello")
    (tmp_path / "empty").mkdir()
    with closing(sqlite3.connect(tmp_path / "empty.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version = 1")
    monkeypatch.chdir(tmp_path)
    said = recwatch("init", target, "-o", "out.yml")
    assert said.code == code, said
    assert says in said.err
    assert "canary" not in said.err + said.out
    assert os.path.exists("out.yml") is (target == "plain.csv")
    assert not os.path.exists("nowhere.db"), "to look must not make a file"


def test_what_is_known_is_written_though_nothing_looks_like_events(recwatch: Recwatch, tmp_path: Path) -> None:
    csv(tmp_path / "shop/ratings.csv", "user_id,item_id", ["1,2", "1,3"])
    said = recwatch("init", str(tmp_path / "shop"), "-o", str(tmp_path / "recwatch.yml"))
    assert said.code == 2
    assert "ratings: other, no times found" in said.err
    written = yaml.safe_load((tmp_path / "recwatch.yml").read_text())
    assert written["datasets"]["ratings"]["roles"] == {"user": "user_id", "item": "item_id"}


def test_a_folder_that_is_not_there_is_said_before_anything_is_read(recwatch: Recwatch, tmp_path: Path) -> None:
    csv(tmp_path / "events.csv", EVENTS, events())
    said = recwatch("init", str(tmp_path), "-o", str(tmp_path / "nowhere/recwatch.yml"))
    assert said.code == 2
    assert "no such folder" in said.err


def test_into_a_pipe_it_is_plain(recwatch: Recwatch, tmp_path: Path) -> None:
    csv(tmp_path / "events.csv", EVENTS, events())
    said = recwatch("init", str(tmp_path), "-o", str(tmp_path / "recwatch.yml"))
    assert "\x1b" not in said.out + said.err
    assert "events: events, sure: it has users, items and times" in said.out
