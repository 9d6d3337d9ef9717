"""Lines of the log: one each, whatever the values hold, and readable where they can be."""

from __future__ import annotations

import logging

import pytest

from monitor import log


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("/data/events", "/data/events"),
        ("/data/Räume", "/data/Räume"),
        ("/data/Räume der Küche", '"/data/Räume der Küche"'),
        ("", '""'),
        (7, "7"),
        ("two\nlines", '"two\\nlines"'),
        ("\u202eread backwards", '"\\u202eread backwards"'),
        ('say "no"', '"say \\"no\\""'),
    ],
)
def test_a_value_is_written_on_one_line(value: object, written: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "recwatch"):
        log.event("found", path=value)
    assert caplog.messages == [f"found path={written}"]
