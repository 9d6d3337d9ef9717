"""Commits what a round of checks has found, and contains what cannot be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import OperationalError

from checks.check import Check
from monitor import log
from monitor.lease import LeaseLostError
from monitor.records import Judged
from monitor.runner import Runner, said
from monitor.store import Store


def commit_round(store: Store, runner: Runner, found: Sequence[Judged], checks: Sequence[Check[Any]]) -> set[str]:
    """Write a round in one transaction; where one window cannot be written, the others each in its own.

    Args:
        store: The state.
        runner: Says how a failed run is noted.
        found: What the checks of the round have found.
        checks: These checks.

    Returns:
        The checks whose findings could not be written, and that are noted as failed instead.

    Raises:
        LeaseLostError: Another daemon leads.
        StateError: The state itself fails, whatever is written.
    """
    try:
        store.commit(*found)
    except Exception as error:
        if isinstance(error, LeaseLostError) or isinstance(error.__cause__, OperationalError):
            raise
        by_id = {check.id: check for check in checks}
        return {judged.check for judged in found if not _commit(store, runner, judged, by_id[judged.check])}
    return set()


def _commit(store: Store, runner: Runner, judged: Judged, check: Check[Any]) -> bool:
    try:
        store.commit(judged)
    except Exception as error:
        reason = f"what it found cannot be written: {said(error)}"
        log.error("check_failed", check=judged.check, dataset=judged.dataset, error=reason)
        store.commit(runner.failed(judged.dataset, check, judged.window, reason))
        return False
    return True
