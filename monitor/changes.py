"""Deploys and other changes that a team writes into a table or a file of its own: read into the timeline of triage."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta

from sqlalchemy import Text, cast

from checks.dataset import Role
from checks.rows import Rows
from checks.window import Window, moment
from monitor import happenings
from monitor.config import ChangesConfig
from monitor.errors import EngineError
from monitor.happenings import Happening
from monitor.resolve import Pipeline, Resolver
from monitor.store import Store

# Rows may be written some time after what they tell of; clocks may differ.
LOOK_BACK, AHEAD = timedelta(days=1), timedelta(minutes=5)
MOST_CHANGES = 200


def read(pipeline: Pipeline, store: Store, changes: ChangesConfig, now: datetime) -> int:
    """Note the changes of the last day that are not noted yet; return how many those are.

    Args:
        pipeline: Its engines are asked.
        store: Where changes are noted.
        changes: Which dataset has them, and what they are called.
        now: The moment.

    Raises:
        EngineError: The dataset cannot be read, or has no such column.
        StateError: The state cannot be written.

    Cost:
        One query for the newest rows of a day, at most ``MOST_CHANGES``.
    """
    with ExitStack() as stack:
        resolver = Resolver(pipeline, stack)
        dataset, session = resolver.dataset(changes.dataset), resolver.session(changes.dataset)
        if changes.text not in dataset.columns:
            there = ", ".join(dataset.columns)
            raise EngineError(f"dataset {dataset.name} has no column {changes.text}, named by changes; it has {there}")
        rows = Rows(dataset, Window(now - LOOK_BACK, now + AHEAD), Role.EVENT_TIME)
        at = rows.micros(Role.EVENT_TIME)
        statement = rows.select(at, cast(dataset.table.c[changes.text], Text)).order_by(at.desc()).limit(MOST_CHANGES)
        found = session.run(statement, MOST_CHANGES, f"changes in {dataset.name}")
    told = [Happening(moment(int(when)), changes.kind, str(text), changes.dataset) for when, text in found if text]
    return happenings.add_new(store, told)
