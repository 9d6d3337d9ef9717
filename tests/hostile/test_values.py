"""Values and names of the data may be anything that a table can hold: they are counted, and never read as SQL."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from checks.check import Outcome, Verdict
from checks.rows import LONGEST_SOURCE
from checks.window import Window
from monitor.series import LONGEST_LABEL, label_value

START = datetime(2026, 3, 3, 12, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(minutes=1))
COLUMNS = {
    "id": "text", "who": "text", "what": "text", "kind": "text", "app": "text", "note": "text", "price": "number",
    "at": "timestamp",
}  # fmt: skip
ROLES = {"event_id": "id", "user": "who", "item": "what", "event_type": "kind", "source": "app", "event_time": "at"}
DATASETS = {"events": {"roles": ROLES, "features": ["note", "price"], "most_sources": 3}}
EAGER = {"min_rows": 1}
CHECKS = {"feature_drift": EAGER, "popularity": EAGER}
PLACEHOLDERS = {"", "null", "none", "undefined", "nan", "0", "-1", "00000000-0000-0000-0000-000000000000"}
NASTY = (
    "", " ", "null", "NaN", "'", "''", '"', "\\", "\\'", ";", "--", "/*", "*/", "%", "_", "$1", ":x", "?", "{}",
    "${HOME}",
    "'; DROP TABLE events; --", '" OR ""="', "a\nb", "a\r\nb", "\t", "\u2028", "\u202eabc", "\ufeff", "\u200b",
    "e\u0301", "\u00e9", "\U0001f600", "\U0010ffff", "<script>alert(1)</script>", "<!channel>", "{{7*7}}", "=1+1",
    "(none)", "other", "(all)", "\x01", "\x7f", "\x1b[31m", "x" * 300, "\u65e5" * 300, "inf", "1e999", "0x0",
    "2026-01-01", "\ud7ff", "\ue000",
)  # fmt: skip
texts = some.one_of(some.sampled_from(NASTY), some.text(max_size=12), some.none())
rows = some.lists(
    some.tuples(texts, texts, texts, texts, texts, texts, some.floats() | some.none(), some.integers(0, 59_999_999)),
    min_size=1, max_size=30,
)  # fmt: skip
Row = Sequence[Any]


def told(found: list[Verdict], measure: str, **more: Any) -> dict[str, float | None]:
    return {verdict.entity or "": verdict.value for verdict in found if verdict.measure == measure}


def is_missing(value: str | None) -> bool:
    return value is None or value.strip(" ").lower() in PLACEHOLDERS


def surplus(made: list[Row]) -> float | None:
    keyed = Counter(row[0] for row in made if row[0] is not None and row[0] != "")
    total = keyed.total()
    return sum(count - 1 for count in keyed.values()) / total if total else None


def placed(made: list[Row]) -> list[Row]:
    return [(*row[:-1], START.replace(tzinfo=None) + timedelta(microseconds=row[-1])) for row in made]


def learn(builder: Any) -> None:
    builder.build(WINDOW)


def judged(bench: Any, table: Any, made: list[Row]) -> list[Verdict]:
    bench.place.fill({"events": table(COLUMNS, placed(made))})
    found: list[Verdict] = bench.verdicts(DATASETS, WINDOW, checks=CHECKS, learn=learn)
    return found


def assert_counted(found: list[Verdict], made: list[Row]) -> None:
    errors = [verdict.reason for verdict in found if verdict.outcome is Outcome.ERROR]
    assert not errors
    unknown = told([one for one in found if one.check == "unknown_ids" and one.source is None], "unknown_ratio")
    for entity, place in (("user", 1), ("item", 2)):
        assert unknown[entity] == pytest.approx(sum(is_missing(row[place]) for row in made) / len(made))
    copies = [one.value for one in found if one.check == "duplicates" and one.measure == "duplicate_ratio"]
    assert copies[0] == pytest.approx(surplus(made)) if copies[0] is not None else surplus(made) is None


SLOW = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("name", ["parquet", "duckdb", "sqlite", "postgresql", "mariadb"])
def test_whatever_is_in_a_table_is_counted(name: str, benches: Any, table: Any) -> None:
    bench = benches(name)

    @SLOW
    @given(rows)
    def holds(made: list[Row]) -> None:
        if name == "postgresql":
            made = [
                tuple(value.replace("\0", "0") if isinstance(value, str) else value for value in row) for row in made
            ]
        assert_counted(judged(bench, table, made), made)

    holds()


def test_each_nasty_text_is_a_value_like_any_other(bench: Any, table: Any) -> None:
    made = [(text, text, text, text, text, text, 1.0, at) for at, text in enumerate(NASTY)]
    found = judged(bench, table, made * 2)
    assert_counted(found, made * 2)
    rare = [one for one in found if one.check == "duplicates" and one.source not in (None, "other")]
    assert {one.value for one in rare} <= {0.5, None}, "each source has each of its events twice, or none with an id"


def test_a_source_that_is_called_like_a_group_is_in_other(bench: Any, table: Any) -> None:
    apps = ["web", "(all)", "(none)", "other", None] * 4
    made: list[Row] = [(str(at), "u", "i", "k", app, "n", 1.0, at) for at, app in enumerate(apps)]
    found = judged(bench, table, made)
    assert_counted(found, made)
    counted = {one.source: one.total for one in found if one.check == "contract" and one.feature != "schema"}
    assert counted == {None: 20, "web": 4, "other": 12, "(none)": 4}
    assert {one.source for one in found} == {None, "web", "other", "(none)"}


def test_texts_of_a_megabyte_are_counted_and_make_no_source(benches: Any, table: Any) -> None:
    long = ["x" * 1_000_000 + end for end in ("a", "b")]
    most = "x" * (LONGEST_SOURCE - 1)
    texts = [*long, *long, f"{most}a", f"{most}b"]
    made: list[Row] = [(text, text, text, text, text, text, 1.0, at) for at, text in enumerate(texts)]
    found = judged(benches("parquet"), table, made)
    assert_counted(found, made)
    sources = {verdict.source for verdict in found if verdict.source is not None}
    assert sources == {"other", *texts[4:]}
    assert len({label_value(source) for source in sources}) == 3
    assert max(len(label_value(source)) for source in sources) <= LONGEST_LABEL
    assert max(len(verdict.reason) for verdict in found) < 3_000


NAMES = (
    'quo"te', "quo'te", "semi;colon", "new\nline", "tab\t", "brackets[0]", "curly{x}", "do$llar", "per%cent",
    "per%(x)s", "colon:name", "\u65e5\u672c", "\u202ertl", "select", "a.b", "back\\slash", "--", "/*x*/", "x" * 63,
    "UPPER", " lead", "`tick`", "?", "<b>",
)  # fmt: skip


@pytest.mark.parametrize("name", ["parquet", "sqlite", "postgresql", "mariadb"])
def test_columns_may_have_any_name(name: str, benches: Any, table: Any) -> None:
    bench = benches(name)
    for at in range(0, len(NAMES), 6):
        # MariaDB takes no name with a blank at its end, and of an alias drops those in front.
        chosen = [f"-{one}-" if one != one.strip() and name == "mariadb" else one for one in NAMES[at : at + 6]]
        columns = {**dict.fromkeys(chosen, "text"), "at": "timestamp"}
        moments = [START.replace(tzinfo=None) + timedelta(seconds=n % 60) for n in range(120)]
        bench.place.fill({"events": table(columns, [(*[f"v{n % 40}"] * 6, when) for n, when in enumerate(moments)])})
        roles = dict(zip(("event_id", "user", "item", "event_type", "source"), chosen, strict=False))
        datasets = {"events": {"roles": {**roles, "event_time": "at"}, "features": [chosen[5]]}}
        found: list[Verdict] = bench.verdicts(
            datasets, WINDOW, checks=CHECKS, learn=lambda builder: builder.build(WINDOW)
        )
        assert [verdict.reason for verdict in found if verdict.outcome is Outcome.ERROR] == []
        copies = next(one for one in found if one.check == "duplicates" and one.measure == "duplicate_ratio")
        assert copies.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [*NAMES[:4], *NAMES[5:12], "a b", "-rf", "#x", "=x", "a,b", "~x", "x=1"])
def test_files_and_folders_may_have_any_name(name: str, benches: Any, table: Any) -> None:
    if "/" in name:
        pytest.skip("no file can be called so")
    bench = benches("parquet")
    bench.place.folder = bench.folder / f"folder {name}"
    bench.place.folder.mkdir()
    bench.place.fill({name: table({"at": "timestamp"}, [(START.replace(tzinfo=None),)] * 7)})
    files = f"{glob.escape(str(bench.place.folder))}/{glob.escape(name)}.parquet"
    bench.place.dataset = lambda _table: {"files": files}
    found: list[Verdict] = bench.verdicts({"events": {"roles": {"event_time": "at"}}}, WINDOW, only=["freshness"])
    assert [verdict.value for verdict in found] == [60.0]
