"""What an engine says of a value that it cannot read names the place, never the value."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from monitor.engine import first_line
from monitor.engines import connect
from monitor.errors import EngineError


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Conversion Error: Could not convert string 'canary' to INT32", "string *** to INT32"),
        (
            "Conversion Error: Could not convert string 'cana'ry' to INT32 when casting from source column x",
            "source column x",
        ),
        ('Conversion Error: invalid timestamp field format: "canary", expected format is (YYYY)', "expected format is"),
        ('Invalid Input Error: Could not parse string "canary" according to format specifier "%Y"', "parse string ***"),
        ('Conversion Error: Malformed JSON at byte 1 of input: unexpected character.  Input: "{canary"', "Input: ***"),
        (
            "Conversion Error: Type INT64 with value 4242 can't be cast because the value is out of range",
            "with value ***",
        ),
        ('invalid input syntax for type timestamp with time zone: "canary"', "timestamp with time zone: ***"),
        ('date/time field value out of range: "canary"', "out of range: ***"),
        ('value "4242" is out of range for type integer', "value *** is out of range for type integer"),
        ('malformed array literal: "{canary"', "literal: ***"),
        (
            "You have an error in your SQL syntax; check the manual for the right syntax to use near 'canary' at",
            "near ***",
        ),
        ("DOUBLE value is out of range in '('canary' + 4242)'", "out of range in ***"),
        ("Truncated incorrect DOUBLE value: 'canary'", "DOUBLE value: ***"),
        ("Truncated incorrect DOUBLE value: 'canary\nof two lines'", "DOUBLE value: ***"),
        ('invalid input syntax for type integer: "canary\x85of two lines"', "type integer: ***"),
        ("Duplicate entry 'canary' for key 'group_key'", "Duplicate entry ***"),
    ],
)
def test_values_are_masked(said: str, shown: str) -> None:
    found = first_line(RuntimeError(said))
    assert shown in found
    assert "canary" not in found
    assert "4242" not in found


@pytest.mark.parametrize(
    "said",
    [
        'Binder Error: Referenced column "price" not found in FROM clause!',
        'relation "public.events" does not exist',
        "IO Error: No files found that match the pattern \"/data/2026/*.parquet\"",
        "Invalid Input Error: CSV Error on Line: 2",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        'syntax error at or near "FROM"',
        "Table 'shop.events' doesn't exist",
    ],
)  # fmt: skip
def test_the_rest_stays(said: str) -> None:
    assert first_line(RuntimeError(said)) == said


def test_of_a_number_and_words_the_words_are_shown() -> None:
    assert first_line(RuntimeError(1146, "Table 'shop.events' doesn't exist")) == "Table 'shop.events' doesn't exist"
    assert first_line(OSError(2, "No such file", "events.csv")) == "[Errno 2] No such file: 'events.csv'"


def test_a_column_that_changes_its_type_between_files_shows_no_value(tmp_path: Path) -> None:
    for name, item in (("a", "1"), ("b", "'canary'")):
        duckdb.connect().execute(f"COPY (SELECT {item} AS item) TO '{tmp_path}/{name}.parquet'")
    with closing(connect("files", "duckdb:///:memory:")) as engine, engine.session() as session:
        with pytest.raises(EngineError) as refused:
            session.run(sa.text(f"SELECT sum(item) FROM read_parquet('{tmp_path}/*.parquet')"), 1)
        assert "b.parquet" in str(refused.value)
        assert "canary" not in str(refused.value)
