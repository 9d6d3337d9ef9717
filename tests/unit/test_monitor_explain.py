"""What ``explain`` says: the words of the docstrings, where settings come from, and SQL that can be copied."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks import CATALOGUE
from checks.check import Check, Outcome, Verdict
from checks.freshness import Freshness
from checks.window import Window
from monitor.config import Config
from monitor.errors import EngineError
from monitor.explain import readable, settings, statements, words
from monitor.resolve import build, enabled_checks
from monitor.slos import objectives

EVERY = pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.id)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROLES = {"event_id": "id", "user": "u", "item": "i", "event_time": "at", "source": "app", "value": "price"}
ROLES |= {"event_type": "app", "cohort": "app"}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(
        "id,u,i,at,app,price\n"
        "1,ann,x,2026-03-01 11:58:30,ios,1.5\n"
        "2,bob,y,2026-03-01 11:58:40,web,2.5\n"
        "2,bob,y,2026-03-01 11:58:40,web,2.5\n"
    )
    (tmp_path / "items.csv").write_text("i\nx\ny\n")
    return tmp_path


# These run only where they are named.
LIMITED = {
    "signal": {"max_value": 100},
    "click_through": {"shown_types": ["ios"], "hit_types": ["web"], "exposed": ["ios"], "control": ["web"]},
    "feedback_loop": {"exposed": ["ios"], "control": ["web"]},
}


def configured(folder: Path, **more: Any) -> Config:
    events = {"files": f"{folder}/events.csv", "roles": ROLES, "items": "items", "features": ["price"], **more}
    items = {"files": f"{folder}/items.csv", "roles": {"item": "i"}}
    return Config.model_validate({"datasets": {"events": events, "items": items}, "checks": LIMITED})


@EVERY
def test_every_check_has_words_for_every_section(kind: type[Check[Any]]) -> None:
    head, sections = words(kind)
    assert head.endswith(".")
    assert set(sections) >= {"Detects", "Does not detect", "When it fires"}
    assert all(sections.values())


@EVERY
def test_every_setting_has_a_value_and_a_meaning(kind: type[Check[Any]]) -> None:
    found = {one.name: one for one in settings(kind, None, "")}
    assert kind.limit_setting in found
    assert {one.origin for one in found.values()} == {"default"}
    assert all(one.value and one.meaning for one in found.values())
    assert found["every"].bounds == "1s or more"
    assert {found[name].value for name in ("enabled", "per_source") if name in found} <= {"true", "false"}
    # One row is enough to tell an age.
    assert ("min_rows" in found) == (kind.id != "freshness")
    if "min_rows" in found:
        assert found["min_rows"].bounds == "1 or more"
        assert float(found["min_rows"].value) >= 1, "1 is no truth value"


def test_freshness_says_that_a_silent_source_alone_alerts_nobody() -> None:
    window = Window(AT - timedelta(minutes=1), AT)
    whole = Verdict("freshness", "events", window, Outcome.GOOD, "lag_seconds", 3.0, 300.0)
    silent = replace(whole, outcome=Outcome.BAD, value=900.0, source="ios")
    config = configured(Path("/nowhere"))
    slo = objectives(config, {"events": enabled_checks(config, "events")})["events-freshness"]
    assert slo.outcome([whole, silent]) is Outcome.GOOD
    assert "goes by the dataset alone" in " ".join(words(Freshness)[1]["When it fires"].split())


def test_a_setting_says_where_it_comes_from() -> None:
    config = Config.model_validate(
        {
            "datasets": {"events": {"files": "x.csv", "checks": {"unknown_ids": {"max_ratio": 0.5}}}},
            "checks": {"unknown_ids": {"max_ratio": 0.2, "min_rows": 7}},
        }
    )
    kind = next(kind for kind in CATALOGUE if kind.id == "unknown_ids")
    found = {one.name: (one.value, one.origin) for one in settings(kind, config, "events")}
    assert found["max_ratio"] == ("0.5", "datasets.events.checks.unknown_ids")
    assert found["min_rows"] == ("7", "checks.unknown_ids")
    assert found["every"] == ("1m", "default")


@EVERY
def test_the_sql_on_files_can_be_copied_and_run(kind: type[Check[Any]], files: Path) -> None:
    with closing(build(configured(files))) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == kind.id)
        _remarks, found = statements(pipeline, "events", check, AT, None)
    assert [statement.title for statement in found[:2]] == ["what events stands for", "what items stands for"]
    assert found[2:]
    with duckdb.connect() as connection:
        for statement in found:
            connection.execute(statement.sql).fetchall()


def test_the_sources_in_the_sql_are_those_of_the_data(files: Path) -> None:
    with closing(build(configured(files))) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == "duplicates")
        _remarks, found = statements(pipeline, "events", check, AT, None)
    counts = next(statement.sql for statement in found if statement.title.startswith("counts"))
    assert "'ios'" in counts
    assert "'web'" in counts


@EVERY
def test_the_sql_on_sqlite_can_be_copied_and_run(kind: type[Check[Any]], tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE log (id TEXT, u TEXT, i TEXT, at TIMESTAMP, app TEXT, price REAL)")
        connection.execute("INSERT INTO log VALUES ('1', 'ann', 'x', '2026-03-01 11:58:30', 'ios', 1.5)")
        connection.commit()
    events = {"table": "log", "roles": ROLES, "features": ["price"]}
    config = Config.model_validate(
        {"engines": {"shop": {"url": f"sqlite:///{path}"}}, "datasets": {"events": events}, "checks": LIMITED}
    )
    with closing(build(config)) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == kind.id)
        _remarks, found = statements(pipeline, "events", check, AT, None)
    assert not any("stands for" in statement.title for statement in found)
    with closing(sqlite3.connect(path)) as connection:
        for name in ("ln", "sqrt", "ceil", "floor"):
            connection.create_function(name, 1, float)
        for statement in found:
            connection.execute(statement.sql).fetchall()


def test_a_check_that_cannot_run_says_why(files: Path) -> None:
    with closing(build(configured(files, features=[]))) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == "feature_drift")
        remarks, found = statements(pipeline, "events", check, AT, None)
    assert remarks == ["no SQL: the check is disabled, it needs features: columns to watch"]
    assert found == []


def test_sql_is_shown_as_far_as_the_links_of_a_check_lead(files: Path) -> None:
    (files / "items.csv").unlink()
    with closing(build(configured(files))) as pipeline:
        checks = {check.id: check for check in pipeline.checks["events"]}
        assert statements(pipeline, "events", checks["duplicates"], AT, None)[1]
        with pytest.raises(EngineError, match=r"^items: .*items\.csv"):
            statements(pipeline, "events", checks["unknown_ids"], AT, None)


def test_brackets_that_hold_no_query_stay_on_their_line() -> None:
    sql = "SELECT f(a, b) AS x, (SELECT max(c) FROM u) FROM t WHERE a IN (1, 2) AND b IS DISTINCT FROM c AND (d AND e)"
    assert readable(sql).splitlines() == [
        "SELECT f(a, b) AS x,",
        "  (",
        "    SELECT max(c)",
        "    FROM u",
        "  )",
        "FROM t",
        "WHERE a IN (1, 2)",
        "  AND b IS DISTINCT FROM c",
        "  AND (d AND e)",
    ]


pieces = st.sampled_from(
    ["SELECT", "FROM", "WHERE", "AND", "GROUP BY", "WITH", "(", ")", ",", "a", "'it''s  FROM (x'", '"a ( b"', "'", " "]
)


@given(st.lists(pieces, max_size=30))
def test_nothing_but_space_between_words_changes(found: list[str]) -> None:
    sql = " ".join(found)
    if sql.count("'") % 2 == 0:
        strings = r"'(?:[^']|'')*'|\"[^\"]*\""
        assert re.findall(strings, readable(sql)) == re.findall(strings, sql)
    assert "".join(readable(sql).split()) == "".join(sql.split())
