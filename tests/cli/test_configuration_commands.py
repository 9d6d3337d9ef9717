"""``validate``, ``explain``, ``schema`` and ``doctor`` as a person types them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from checks import CATALOGUE
from monitor import cli
from monitor.store import Store

Run = Callable[..., Any]
CONFIG = """\
pipeline: shop
datasets:
  events:
    files: events.csv
    roles: {event_time: at, user: u, item: i}
    items: items
    checks: {unknown_ids: {max_ratio: 0.5}}
  items:
    files: items.csv
    roles: {item: i}
checks:
  popularity: {enabled: false}
  unknown_ids: {min_rows: 7}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text("u,i,at\nann,x,2026-03-01 11:58:30\n")
    (tmp_path / "items.csv").write_text("i\nx\n")
    path = tmp_path / "recwatch.yml"
    path.write_text(CONFIG)
    return path


# -- validate ------------------------------------------------------------------------------------


def test_validate_sums_a_configuration_up(recwatch: Run, config: Path) -> None:
    done = recwatch("validate", "-c", str(config))
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("shop: the configuration is fine\n")
    assert f"events: files {config.parent}/events.csv, by the embedded DuckDB" in done.out
    assert "roles: event_time = at, user = u, item = i" in done.out
    assert "read for: events (items)" in done.out
    assert "freshness 30s 1h 0s" in lines
    assert "popularity - - - switched off" in lines
    assert "feature_drift - - - disabled: it needs features: columns to watch" in lines
    assert "note:" not in done.out


def test_validate_notes_what_has_no_effect(recwatch: Run, config: Path) -> None:
    more = (
        "    features: [price]\n  stray: {table: t, roles: {user: u}}\n"
        "  asleep: {files: t.csv, watch: false, roles: {event_time: at}}\nengines:\n  a: {url: 'sqlite:///a.db'}\n"
    )
    config.write_text(
        CONFIG.replace("checks:\n  popularity", f"{more}checks:\n  feature_drift: {{bins: 5}}\n  popularity")
    )
    done = recwatch("validate", "-c", str(config))
    notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
    assert (done.code, notes) == (
        0,
        [
            "note: dataset items is not watched, so its checks and features have no effect; add watch: true",
            "note: dataset stray is neither watched nor read for another; remove it, or add a time role",
            "note: dataset asleep is neither watched nor read for another; remove it, or its watch: false",
            "note: checks.feature_drift has no effect: no watched dataset can run it, it needs features: columns to"
            " watch",
            "note: engine a is used by no dataset; remove it, or name it in one",
        ],
    )
    done = recwatch("validate", "-c", str(config), "--json")
    assert json.loads(done.out) == {"problems": [], "notes": [note.removeprefix("note: ") for note in notes]}


def test_validate_notes_sources_that_are_called_like_groups(recwatch: Run, config: Path) -> None:
    text = CONFIG.replace(
        "item: i}\n    items: items", "item: i, source: app}\n    sources: [web, (all), other]\n    items: items"
    )
    config.write_text(text)
    done = recwatch("validate", "-c", str(config), "--json")
    note = "dataset events: sources has (all), other, names of recwatch's own; such rows count as other"
    assert (done.code, json.loads(done.out)["notes"]) == (0, [note])


def test_validate_knows_what_is_read_for_changes(recwatch: Run, config: Path) -> None:
    releases = "  releases: {engine: ci, table: releases, roles: {event_time: at}}\n"
    rest = "engines: {ci: {url: 'sqlite:///ci.db'}}\nchanges: [{dataset: releases, text: version}]\nchecks:\n"
    config.write_text(CONFIG.replace("checks:\n  popularity", f"{releases}{rest}  popularity"))
    done = recwatch("validate", "-c", str(config))
    assert (done.code, "note:" in done.out) == (0, False)
    assert "read for: changes" in done.out


def test_validate_notes_a_stage_that_does_not_tell_sources_apart(recwatch: Run, config: Path) -> None:
    text = CONFIG.replace("item: i}\n    items: items", "item: i, source: app}\n    items: items\n    sent: sent")
    config.write_text(text.replace("checks:\n", "  sent: {files: sent.csv, roles: {event_time: at}}\nchecks:\n"))
    done = recwatch("validate", "-c", str(config), "--json")
    note = "dataset events: sent has no role source, so ingestion judges all sources as one"
    assert (done.code, json.loads(done.out)["notes"]) == (0, [note])


def test_validate_names_every_problem_and_exits_2(recwatch: Run, config: Path) -> None:
    config.write_text(CONFIG.replace("items: items", "items: itms").replace("max_ratio", "max_ration"))
    expected = [
        f"{config}:6:5: datasets.events.items: no dataset has this name, got itms; did you mean items?",
        f"{config}:7:28: datasets.events.checks.unknown_ids.max_ration: unknown key; did you mean max_ratio?",
    ]
    done = recwatch("validate", "-c", str(config))
    assert (done.code, done.out, done.err.splitlines()) == (2, "", expected)
    done = recwatch("validate", "-c", str(config), "--json")
    assert (done.code, json.loads(done.out)) == (2, {"problems": expected, "notes": []})


# -- explain -------------------------------------------------------------------------------------


def test_explain_says_everything_about_a_check(recwatch: Run, config: Path) -> None:
    done = recwatch("explain", "unknown_ids", "-c", str(config), "--at", "2026-03-01T12:00:00Z")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    for title in ("Detects", "Does not detect", "When it fires", "Formula", "Limit", "Settings on events"):
        assert title in lines
    assert "max_ratio = 0.5, from datasets.events.checks.unknown_ids" in done.out
    settings = [line.split()[:3] for line in lines]
    assert ["max_ratio", "0.5", "datasets.events.checks.unknown_ids"] in settings
    assert ["min_rows", "7", "checks.unknown_ids"] in settings
    assert "SQL on events, every 1m over a window of 1m; here 2026-03-01 11:58 to 11:59 UTC" in lines
    assert "    WHERE events.\"at\" >= '2026-03-01 11:58:00'" in done.out
    assert "\x1b" not in done.out


def test_explain_without_a_check_lists_them(recwatch: Run) -> None:
    said = recwatch("explain")
    assert said.code == 0
    assert [line.split(":")[0] for line in said.out.splitlines()] == [check.id for check in CATALOGUE]
    assert "freshness:     Tells how long ago the newest event happened and arrived." in said.out


def test_explain_without_a_configuration_says_the_rest(recwatch: Run, tmp_path: Path) -> None:
    for check in CATALOGUE:
        done = recwatch("explain", check.id, "-c", str(tmp_path / "absent.yml"))
        assert done.code == 0
        assert "No SQL to show\n" in done.out
        absent = tmp_path / "absent.yml"
        assert f"{absent}: no such file; write one with: recwatch init PATH_OR_URL -o {absent}" in done.out


def test_explain_without_its_engine_says_the_rest_and_no_password(recwatch: Run, config: Path) -> None:
    text = CONFIG.replace("files: events.csv", "table: events").replace("files: items.csv", "table: items")
    config.write_text(text + "engines: {db: {url: 'postgresql://u:canary@127.0.0.1:1/d'}}\n")
    done = recwatch("explain", "unknown_ids", "-c", str(config))
    assert done.code == 0
    assert "Formula" in done.out
    assert "No SQL to show\n  engine db (postgresql://u:***@127.0.0.1:1/d) cannot be reached: " in done.out
    assert "canary" not in done.out + done.err


def test_explain_says_that_a_check_is_off(recwatch: Run, config: Path) -> None:
    done = recwatch("explain", "popularity", "-c", str(config))
    assert done.code == 0
    assert "popularity is switched off on events" in done.out
    done = recwatch("explain", "feature_drift", "-c", str(config))
    assert "the check is disabled, it needs features: columns to watch" in done.out


def test_explain_suggests_what_was_meant(recwatch: Run, config: Path) -> None:
    done = recwatch("explain", "duplicate")
    assert done.code == 2
    assert done.err == "explain: no check has this name, got duplicate; did you mean duplicates?\n"
    done = recwatch("explain", "duplicates", "-c", str(config), "--dataset", "evnts")
    assert done.code == 2
    assert done.err == "--dataset: no watched dataset has this name, got evnts; did you mean events?\n"


# -- schema and doctor ---------------------------------------------------------------------------


def test_schema_is_one_that_validators_accept(recwatch: Run) -> None:
    done = recwatch("schema")
    assert done.code == 0
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(schema)


def test_doctor_says_what_is_installed(recwatch: Run) -> None:
    done = recwatch("doctor")
    assert done.code == 0
    assert f"sqlalchemy {metadata.version('sqlalchemy')}" in done.out
    for name in ("checks", "alerts", "dashboards", "monitor"):
        assert f"package {name} at " in done.out
    assert done.out.count("is recwatch's own") == 4


def test_doctor_tries_the_configuration_that_lies_here(
    recwatch: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recwatch.yml").write_text("pipeline: shop\n")
    done = recwatch("doctor")
    assert (done.code, "recwatch.yml" in done.err) == (2, True)


def test_doctor_misses_nothing_that_only_an_extra_brings(recwatch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    there = metadata.version

    def version(name: str) -> str:
        if name in ("scipy", "evidently"):
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    done = recwatch("doctor")
    assert done.code == 0
    assert "evidently is not installed; where it is wanted: pip install 'recwatch[reports]'" in done.out


def test_doctor_tells_a_stranger_and_what_is_missing(recwatch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerts.OWNER", "somebody")
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"checks": ["recwatch", "checks"]})
    done = recwatch("doctor")
    assert done.code == 2
    assert "is not recwatch's and hides it" in done.out
    assert "is recwatch's own, but checks brings one of this name, too" in done.out


def test_doctor_says_that_a_state_has_no_folder(recwatch: Run, config: Path) -> None:
    config.write_text(f"{config.read_text()}\nstate: sqlite:////no/such/folder/state.db\n")
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 3
    assert "state: cannot be made, there is no folder /no/such/folder; make it, or write another path" in done.out


def test_doctor_says_that_a_state_cannot_be_made(recwatch: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != config.parent)
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 3
    assert f"state: cannot be made, {config.parent} cannot be written; change its rights, or set state" in done.out


def test_doctor_tries_state_and_engines(recwatch: Run, config: Path) -> None:
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 0
    assert "state: none yet, the daemon will make it" in done.out
    assert "engine files (duckdb): answers after " in done.out
    (config.parent / "recwatch-state.db").write_text("this is no database, but a text that is long enough " * 100)
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 3
    assert "cannot be opened" in done.out
    assert "engine files (duckdb): answers after " in done.out


def test_doctor_looks_whether_the_data_has_what_is_named(recwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,app,ts\nann,ios,2026-03-03 12:00:00\n")
    (tmp_path / "b.json").write_text('{"ctx": {"user": "ann"}, "ts": "2026-03-03 12:00:00"}\n')
    path = tmp_path / "recwatch.yml"
    path.write_text(
        f"datasets:\n  right: {{files: {tmp_path}/a.csv, roles: {{user: user_id, event_time: ts}}}}\n"
        f"  wrong: {{files: {tmp_path}/a.csv, roles: {{user: userid, event_time: app}}, features: [apps]}}\n"
        f"  deep: {{files: {tmp_path}/b.json, roles: {{user: ctx.user, event_time: ts}}}}\n"
        f"  none: {{files: {tmp_path}/c.csv, roles: {{user: user_id, event_time: ts}}}}\n"
    )
    done = recwatch("doctor", "-c", str(path))
    assert done.code == 3
    assert "dataset right: answers after" in done.out
    assert (
        "dataset wrong: column userid (role user) is not in the data; did you mean user_id?; column apps (features) is"
        " not in the data; did you mean app?; column app (role event_time) holds no times; name a column of"
        " times, text among them in ISO 8601"
    ) in done.out
    assert "dataset deep: column ctx.user (role user) is not in the data; a field within ctx is no column" in done.out
    assert f"dataset none: files {tmp_path}/c.csv: there is no c.csv in {tmp_path}\n" in done.out


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("price", "10.5 to 11.5, of which most are as Unix s no times from 1990 to 2100; name the column of"),
        ("{column: ms, unit: s}", "1772539200000 to 1772539201000, of which most are as Unix s no times from 1990"),
        ("born", "1950-01-02 to 2001-01-01, of which most are no times from 1990 to 2100; name the column of"),
        ("far", "0001-01-01 to 9999-12-31, of which most are no times from 1990"),
        ("ms", ""), ("some", ""),
    ],
)  # fmt: skip
def test_doctor_tells_a_column_whose_values_are_no_plausible_times(
    recwatch: Run, tmp_path: Path, column: str, says: str
) -> None:
    lines = [
        "user_id,price,ms,born,far,some", "ann,10.5,1772539200000,1950-01-02,9999-12-31T23:59:59Z,0",
        "bob,11.5,1772539201000,1951-01-02,0001-01-01T00:00:00Z,1772539200", "cy,11,1772539201000,2001-01-01,,",
    ]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(lines))
    path = tmp_path / "recwatch.yml"
    one = f"datasets: {{a: {{files: {tmp_path}/a.csv, roles: {{user: user_id, event_time: {column}}}"
    path.write_text(f"{one}}}}}")
    done = recwatch("doctor", "-c", str(path))
    assert done.code == (3 if says else 0)
    assert (f"(role event_time) holds {says}" if says else "dataset a: answers after") in done.out
    if column == "born":
        path.write_text(f"{one}, checks: {{contract: {{epoch_floor: 1900-01-01T00:00:00Z}}}}}}}}")
        assert recwatch("doctor", "-c", str(path)).code == 0, "its own floor holds"


def test_doctor_looks_for_the_columns_that_checks_evidence_and_changes_name(recwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,app,price,ts\nann,ios,1.5,2026-03-03 12:00:00\n")
    path = tmp_path / "recwatch.yml"
    one = f"files: {tmp_path}/a.csv, roles: {{user: user_id, event_time: ts}}"
    rest = (
        "checks: {contract: {ranges: {prize: [0, 9]}}}\nevidence: {segments: [app, application], columns: [price]}\n"
        "changes: [{dataset: releases, text: version}]\n"
    )
    own = "checks: {contract: {required: [user_idd]}}"
    path.write_text(f"datasets:\n  events: {{{one}, {own}}}\n  releases: {{{one}}}\n{rest}")
    done = recwatch("doctor", "-c", str(path))
    assert done.code == 3
    assert (
        "dataset events: column application (evidence.segments) is not in the data; column user_idd (required by"
        " contract) is not in the data; did you mean user_id?; column prize (ranges of contract) is not in the data;"
        " did you mean price?\n"
    ) in done.out
    assert "dataset releases: column version (text of changes) is not in the data\n" in done.out
    several = f"datasets:\n  events: {{{one}}}\n  others: {{{one}}}\n{rest.partition('changes')[0]}"
    path.write_text(several)
    assert recwatch("doctor", "-c", str(path)).code == 0, "each may lack what the other has"


def test_doctor_prints_the_size_of_the_state(recwatch: Run, config: Path) -> None:
    Store(f"sqlite:///{config.parent}/recwatch-state.db", "shop").close()
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 0
    assert re.search(r"it takes 0\.[1-9] MB: 1 meta", done.out)


def test_doctor_tells_an_engine_that_does_not_answer(recwatch: Run, config: Path) -> None:
    config.write_text(CONFIG + "engines: {db: {url: 'postgresql://u:canary@127.0.0.1:1/d'}}\n")
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 3
    assert "engine db (postgresql://u:***@127.0.0.1:1/d) cannot be reached" in done.out
    assert "canary" not in done.out + done.err
    config.write_text("pipeline: shop\n")
    done = recwatch("doctor", "-c", str(config))
    assert done.code == 2
    assert "datasets: is missing; add datasets" in done.err


def test_a_checkout_that_is_not_installed_has_a_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing)
    assert cli.version() == "(not installed)"


def test_validate_says_what_may_be_asked_of_an_engine(recwatch: Run, config: Path) -> None:
    before = recwatch("validate", "-c", str(config))
    assert "statements an hour" not in before.out
    text = config.read_text()
    assert "engines:" not in text
    budget = "engines: {files: {url: 'duckdb:///:memory:', budget: {seconds_per_hour: 600}}}\n"
    config.write_text(text + budget)
    said = recwatch("validate", "-c", str(config))
    assert (said.code, said.err) == (0, "")
    assert "engine files: at most 600 s of statements an hour, the last 10 % for checks of the present" in said.out
    config.write_text(text + budget.replace("seconds_per_hour", "bytes_per_hour"))
    wrong = recwatch("validate", "-c", str(config))
    assert wrong.code == 2
    assert "engines.files.budget.bytes_per_hour" in wrong.err
    assert "seconds_per_hour" in wrong.err


def test_where_one_pipeline_is_served_stands_in_its_file(recwatch: Run, config: Path) -> None:
    said = recwatch("run", "-c", str(config), "--port", "0")
    assert said.code == 2
    assert "--port: is for many pipelines; set server in" in said.err


def test_a_folder_without_a_configuration_is_said(recwatch: Run, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said = recwatch("run", "-c", str(tmp_path / "none"))
    assert said.code == 2
    assert "no configuration is here" in said.err
