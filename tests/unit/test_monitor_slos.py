"""Which objectives a configuration has without a line about them."""

from __future__ import annotations

import pytest

from monitor.config import Config
from monitor.resolve import build


@pytest.mark.parametrize(
    ("roles", "named"),
    [
        (("user", "item", "event_id"), {"unknown_ids-user", "unknown_ids-item", "duplicates", "duplicates-semantic"}),
        (("user", "item"), {"unknown_ids-user", "unknown_ids-item", "duplicates"}),
        (("user", "event_id"), {"unknown_ids-user", "duplicates"}),
        (("item",), {"unknown_ids-item"}),
    ],
)
def test_a_part_that_cannot_be_judged_has_no_objective(roles: tuple[str, ...], named: set[str]) -> None:
    events = {"files": "events/*.parquet", "roles": {"event_time": "at", **{role: role for role in roles}}}
    pipeline = build(Config.model_validate({"datasets": {"events": events}}))
    pipeline.close()
    found = {slo.name.removeprefix("events-") for slo in pipeline.slos.values()}
    assert {name for name in found if name.startswith(("unknown_ids", "duplicates"))} == named
