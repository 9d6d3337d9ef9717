"""Two daemons on one state: one leads, the other takes over, and nothing is written by both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.clock import ManualClock
from monitor.errors import StateError
from monitor.lease import LASTS, Lease, LeaseLostError
from monitor.store import Store

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/state.db" if is_file else request.getfixturevalue("postgresql")
    store = Store(url, f"lease-{tmp_path.name}")
    yield store
    store.close()


def other_machine(lease: Lease) -> Lease:
    lease.holder = "elsewhere:1:abc"
    return lease


def test_one_leads_until_it_gives_up(store: Store) -> None:
    clock = ManualClock(START)
    first, second = Lease(store, clock), other_machine(Lease(store, clock))
    assert (first.renew(), second.renew()) == (True, False)
    assert (first.renew(), second.renew()) == (True, False)
    first.release()
    assert (second.renew(), first.renew()) == (True, False)


def test_a_leader_that_falls_silent_is_replaced_and_may_write_no_more(tmp_path: Path) -> None:
    clock, store = ManualClock(START), Store(f"sqlite:///{tmp_path}/state.db", "shop")
    first, second = other_machine(Lease(store, clock)), Lease(store, clock)
    assert first.renew()
    clock.move(LASTS - timedelta(seconds=1))
    assert not second.renew()
    clock.move(timedelta(seconds=2))
    assert second.renew()
    with pytest.raises(LeaseLostError), store.writing() as connection:
        first.guard(connection)
    assert not first.is_held
    with store.writing() as connection:
        second.guard(connection)
    store.close()


def test_whoever_writes_keeps_the_lease(tmp_path: Path) -> None:
    clock, store = ManualClock(START), Store(f"sqlite:///{tmp_path}/state.db", "shop")
    first, second = other_machine(Lease(store, clock)), Lease(store, clock)
    assert first.renew()
    clock.move(LASTS)
    with store.writing() as connection:
        first.guard(connection)
    clock.move(LASTS)
    assert not second.renew(), "it lasts from when something was written"
    clock.move(timedelta(microseconds=1))
    assert second.renew()
    store.close()


def test_pipelines_of_one_state_have_leases_of_their_own(tmp_path: Path) -> None:
    clock = ManualClock(START)
    with (
        closing(Store(f"sqlite:///{tmp_path}/state.db", "shop")) as shop,
        closing(Store(f"sqlite:///{tmp_path}/state.db", "films")) as films,
    ):
        ours, theirs = Lease(shop, clock), other_machine(Lease(films, clock))
        assert [lease.renew() for lease in (ours, theirs, ours)] == [True] * 3
        with films.writing() as connection:
            theirs.guard(connection)
        ours.release()
        assert not Lease(films, clock).renew()


def test_a_leader_that_is_late_and_not_replaced_goes_on(tmp_path: Path) -> None:
    clock, store = ManualClock(START), Store(f"sqlite:///{tmp_path}/state.db", "shop")
    lease = Lease(store, clock)
    lease.renew()
    clock.move(10 * LASTS)
    with store.writing() as connection:
        lease.guard(connection)
    assert lease.is_held
    store.close()


def test_a_process_of_this_machine_that_was_killed_is_not_waited_for(store: Store) -> None:
    clock = ManualClock(START)
    killed, mine = Lease(store, clock), Lease(store, clock)
    host = killed.holder.rsplit(":", 2)[0]
    # No process has this number: it is above the highest that Linux gives.
    killed.holder = f"{host}:{2**22 + 1}:abc"
    assert killed.renew()
    assert mine.renew()
    # In a container every daemon has the same number.
    before = Lease(store, clock)
    before.holder = f"{host}:{os.getpid()}:before"
    assert mine.renew()
    assert before.renew(), "the one before with our number is gone, and so would we be for it"


def test_machines_whose_names_are_alike_as_far_as_they_are_kept_are_two(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = []
    for name in ("recommendations-prod-recwatch-0", "recommendations-prod-recwatch-1"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        leases.append(Lease(store, ManualClock(START)))
    assert [lease.renew() for lease in leases] == [True, False]


def test_a_state_that_is_away_keeps_nobody_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "lease")) as store:
        lease = Lease(store, ManualClock(START))
        assert lease.renew()

        def away() -> None:
            raise StateError("gone")

        monkeypatch.setattr(store, "writing", away)
        lease.release()
        assert not lease.is_held
