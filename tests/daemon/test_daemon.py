"""The daemon without its clock: ticks, catching up, containment, reload."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.triggers.interval import IntervalTrigger

from alerts.message import Alert, Severity, State
from alerts.notifier import Memory
from checks.check import Outcome, Sample
from checks.window import Window
from monitor import chores, log, outbox
from monitor.clock import ManualClock
from monitor.daemon import Daemon
from monitor.errors import StateError
from monitor.resolve import Pipeline
from monitor.stream import LiveWriter, Stream, StreamSettings
from monitor.workers import lanes

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STREAM = Stream(StreamSettings(events_per_second=20, users=5_000, items=500))

CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles:
      event_id: event_id
      user: user_id
      item: item_id
      event_type: event_type
      event_time: event_time
      ingested_at: ingested_at
      source: source
    features: [device, app_version]
checks:
  unknown_ids: {settle: 0s}
  duplicates: {settle: 0s, look_back: 10m}
  contract: {settle: 0s}
  density: {enabled: false}
  popularity: {enabled: false}
  feature_drift: {every: 5m, window: 5m, settle: 0s}
"""


@pytest.fixture
def writer(tmp_path: Path) -> LiveWriter:
    writer = LiveWriter(STREAM, tmp_path, START)
    writer.advance(START + 5 * MINUTE)
    return writer


@pytest.fixture
def start(tmp_path: Path, writer: LiveWriter) -> Iterator[Callable[[datetime], Daemon]]:
    """Start daemons on one configuration and state, each at a moment of its own."""
    running: list[Daemon] = []
    write(tmp_path, CONFIG)

    def make(now: datetime) -> Daemon:
        daemon = Daemon(tmp_path / "recwatch.yml", ManualClock(now))
        running.append(daemon)
        return daemon

    yield make
    for daemon in running:
        daemon.live.pipeline.close()
        daemon.store.close()


def write(folder: Path, config: str) -> None:
    (folder / "recwatch.yml").write_text(config.replace("FOLDER", str(folder)))


def tick(daemon: Daemon) -> None:
    for dataset, checks in daemon.live.pipeline.checks.items():
        daemon.tick(dataset, list(checks))


def move(daemon: Daemon, by: timedelta) -> None:
    assert isinstance(daemon.clock, ManualClock)
    daemon.clock.move(by)


def counted(daemon: Daemon) -> int:
    """Return the rows that the contract has counted, those held back for a new series included."""
    with daemon.store.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT sum(value + held) FROM counters WHERE metric = 'recwatch_contract_rows_total'"
        ).scalar()
    return int(rows or 0)


def rows_ingested(writer: LiveWriter, start: datetime, end: datetime) -> int:
    import duckdb

    files = f"{writer.folder}/events/*.parquet"
    span = [moment.replace(tzinfo=None) for moment in (start, end)]
    with duckdb.connect() as connection:
        query = "SELECT count(*) FROM read_parquet(?) WHERE ingested_at >= ? AND ingested_at < ?"
        found = connection.execute(query, [files, *span]).fetchone()
    assert found is not None
    return int(found[0])


def test_a_first_tick_judges_every_check(start: Callable[[datetime], Daemon]) -> None:
    daemon = start(START + 5 * MINUTE)
    tick(daemon)
    outcomes = {verdict.check: verdict.outcome for verdict in daemon.store.latest()}
    assert set(outcomes) == {"freshness", "ingestion", "contract", "unknown_ids", "duplicates", "feature_drift"}
    assert Outcome.ERROR not in outcomes.values()
    assert outcomes["freshness"] is Outcome.GOOD


def test_restarts_and_downtime_count_every_row_once(start: Callable[[datetime], Daemon], writer: LiveWriter) -> None:
    tick(start(START + 2 * MINUTE))
    for minutes in (2, 3, 5):
        # A new daemon on the same state each time, the last one after a pause.
        tick(start(START + minutes * MINUTE))
        tick(start(START + minutes * MINUTE))
    last = start(START + 5 * MINUTE)
    tick(last)
    assert counted(last) == rows_ingested(writer, START + MINUTE, START + 5 * MINUTE)


def test_a_missing_table_is_an_error_of_its_checks_and_heals(
    start: Callable[[datetime], Daemon], writer: LiveWriter
) -> None:
    daemon = start(START + 4 * MINUTE)
    tick(daemon)
    before = counted(daemon)
    events = writer.folder / "events"
    events.rename(writer.folder / "away")
    move(daemon, MINUTE)
    tick(daemon)
    assert {verdict.outcome for verdict in daemon.store.latest() if verdict.check == "contract"} == {Outcome.ERROR}
    assert counted(daemon) == before
    (writer.folder / "away").rename(events)
    tick(daemon)
    assert counted(daemon) == before + rows_ingested(writer, START + 4 * MINUTE, START + 5 * MINUTE)
    assert all(run.error is None for run in daemon.store.runs())


def test_a_broken_check_touches_no_other(start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = start(START + 5 * MINUTE)
    broken = next(check for check in daemon.live.pipeline.checks["events"] if check.id == "duplicates")

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(broken, "judge", fail)
    tick(daemon)
    outcomes = {verdict.check: verdict for verdict in daemon.store.latest()}
    assert outcomes["duplicates"].outcome is Outcome.ERROR
    assert outcomes["duplicates"].reason == "ZeroDivisionError: by design"
    assert outcomes["contract"].outcome is not Outcome.ERROR


def test_what_cannot_be_written_is_an_error_of_its_check_alone(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(START + 5 * MINUTE)
    broken = next(check for check in daemon.live.pipeline.checks["events"] if check.id == "duplicates")
    monkeypatch.setattr(broken, "counters", lambda _tally: (Sample("recwatch_dedup_events_total", {}, 2**70),))
    tick(daemon)
    outcomes = {verdict.check: verdict for verdict in daemon.store.latest()}
    assert outcomes["duplicates"].outcome is Outcome.ERROR
    assert outcomes["duplicates"].reason.startswith("what it found cannot be written: OverflowError")
    assert outcomes["contract"].outcome is not Outcome.ERROR
    watermarks = daemon.store.watermarks("events")
    assert watermarks["duplicates"] is None
    assert watermarks["contract"] is not None
    # A window that is too old to be tried again holds up no later one.
    old = Window(START - timedelta(days=30), START - timedelta(days=30) + MINUTE)
    assert daemon.judge(daemon.live, "events", [(broken, old)]) == {"duplicates"}
    assert daemon.store.watermarks("events")["duplicates"] == old.end


def test_a_missing_role_disables_just_the_checks_that_need_it(
    start: Callable[[datetime], Daemon], tmp_path: Path
) -> None:
    without = CONFIG.replace("      user: user_id\n      item: item_id\n", "")
    # A check that is set up by name must find its roles; one that is there by default may lack them.
    write(tmp_path, without.replace("  unknown_ids: {settle: 0s}\n", ""))
    daemon = start(START + 5 * MINUTE)
    tick(daemon)
    assert {check for _dataset, check in daemon.live.runner.disabled} == {"unknown_ids"}
    reason = daemon.live.runner.disabled["events", "unknown_ids"].reason
    assert reason == "needs the role user or item"
    assert "duplicates" in {verdict.check for verdict in daemon.store.latest()}


def test_a_wrong_configuration_is_refused_and_the_old_one_stays(
    start: Callable[[datetime], Daemon], tmp_path: Path
) -> None:
    daemon = start(START + 5 * MINUTE)
    daemon._scheduler.start(paused=True)
    old = daemon.live
    write(tmp_path, CONFIG.replace("look_back: 10m", "look_back: soon"))
    daemon.reload()
    assert daemon.live is old
    assert daemon.reload_state.problem is not None
    assert "look_back" in daemon.reload_state.problem
    write(tmp_path, CONFIG.replace("pipeline: shop", "pipeline: other"))
    daemon.reload()
    assert "restart" in str(daemon.reload_state.problem)
    write(tmp_path, CONFIG.replace("look_back: 10m", "look_back: 5m"))
    daemon.reload()
    assert daemon.reload_state.problem is None
    duplicates = next(check for check in daemon.live.pipeline.checks["events"] if check.id == "duplicates")
    assert duplicates.settings.look_back == timedelta(minutes=5)
    daemon._scheduler.shutdown()


def test_checks_run_at_once_and_then_whenever_a_window_has_settled(
    start: Callable[[datetime], Daemon], tmp_path: Path
) -> None:
    write(tmp_path, CONFIG.replace("contract: {settle: 0s}", "contract: {settle: 20s, every: 5m, window: 5m}"))
    daemon = start(datetime.now(UTC))
    daemon.workers.scheduler.start(paused=True)
    daemon._schedule()
    ticks = [job for job in daemon._jobs if getattr(job.func, "func", None) == daemon._queue_tick]
    again = [job for job in ticks if isinstance(job.trigger, IntervalTrigger)]
    assert len(again) == len(ticks) / 2
    for job in again:
        checks = job.func.args[1]
        then = job.trigger.get_next_fire_time(job.next_run_time, job.next_run_time)
        for at in (job.next_run_time, then):
            since = (at - datetime(1970, 1, 1, tzinfo=UTC)) % checks[0].settings.every
            assert since == min(check.settings.settle for check in checks)
    daemon._unschedule()
    daemon._scheduler.shutdown()


def test_readiness_waits_for_no_check_that_is_gone(start: Callable[[datetime], Daemon], tmp_path: Path) -> None:
    daemon = start(START)
    assert daemon.lease.renew()
    daemon.workers.scheduler.start(paused=True)
    daemon._schedule()
    assert "checks have not run yet" in str(daemon.pending())
    write(tmp_path, CONFIG.replace("duplicates: {settle: 0s, look_back: 10m}", "duplicates: {enabled: false}"))
    daemon.reload()
    assert daemon.reload_state.problem is None
    for dataset, checks in daemon.live.pipeline.checks.items():
        daemon.tick(dataset, list(checks))
    assert daemon.pending() is None
    daemon._scheduler.shutdown()


def test_what_fails_unforeseen_while_asking_is_an_error_of_its_checks(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(START + 5 * MINUTE)
    monkeypatch.setattr(daemon.live.runner, "_scan", lambda *_: {}["values"])
    tick(daemon)
    found = {verdict.outcome for verdict in daemon.store.latest()}
    assert found == {Outcome.ERROR}


def test_a_refused_configuration_leaves_no_engine_open(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, closed = start(START), list[Pipeline]()
    own, close = daemon.live.pipeline, Pipeline.close

    def refuse(*_args: object) -> None:
        raise ValueError("a channel that cannot be set up")

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "close", lambda pipeline: [closed.append(pipeline), close(pipeline)])
        patched.setattr("monitor.watch.notifiers", refuse)
        daemon.reload()
    assert "cannot be set up" in str(daemon.reload_state.problem)
    (refused,) = closed
    assert (refused is own, daemon.live.pipeline is own) == (False, True)


def test_a_start_says_whether_it_leads_or_stands_by(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr(log, "event", lambda name, **_keys: said.append(name))
    start(START)
    monkeypatch.setattr("monitor.daemon.Lease.renew", lambda _self: False)
    start(START)._beat()
    assert [name for name in said if name in ("leads", "stands_by")] == ["leads", "stands_by"]


def test_a_daemon_that_leads_again_knows_what_others_have_spent_and_told(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(START)
    recalled, recall, failures = list[bool](), daemon.scans.recall, [StateError("the state is away")]

    def fails_once() -> None:
        if failures:
            raise failures.pop()
        recall()
        recalled.append(True)

    monkeypatch.setattr(daemon.scans, "recall", fails_once)
    led = list[bool]()
    monkeypatch.setattr(daemon.live.watch, "lead", led.append)
    # Between two beats another one led, which a transaction was told.
    daemon.lease.is_held = False
    daemon._beat()
    assert daemon.problem() == "the schedule does not run"
    assert daemon._state_problem == "the state is away"
    daemon._beat()
    daemon._beat()
    assert daemon._state_problem is None
    assert recalled == [True]
    assert led == [False, True, True], "what is remembered of incidents is forgotten once"


class Slow:
    """A channel that is still sending for as long as it is held."""

    kind, rate_per_second, burst = "slow", 100.0, 100

    def __init__(self) -> None:
        self.told: list[str] = []
        self.began, self.goes_on = threading.Event(), threading.Event()

    def deliver(self, alert: Alert, _memory: Memory) -> None:
        self.told.append(alert.key)
        self.began.set()
        self.goes_on.wait(60)


def test_a_message_that_is_being_sent_goes_out_once_whatever_is_reloaded(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    monkeypatch.setattr("monitor.watch.notifiers", lambda _config: {"here": slow})
    daemon, now = start(START + 5 * MINUTE), START + 5 * MINUTE
    with daemon.store.writing() as connection:
        for key in ("first", "second"):
            alert = Alert(key, 1, State.FIRING, Severity.PAGE, "shop", now, now, (), "it fires")
            outbox.put(connection, "shop", alert, ["here"])
    daemon.live.watch.start()
    assert slow.began.wait(10)
    began = time.monotonic()
    daemon.reload()
    daemon.reload()
    assert time.monotonic() - began < 4, "nor does a reload wait for it"
    # Longer than a delivery that has begun needs to find what waits.
    time.sleep(0.5)
    assert slow.told == ["first"]
    slow.goes_on.set()
    ends = time.monotonic() + 20
    while outbox.first(daemon.store, "here") is not None and time.monotonic() < ends:
        time.sleep(0.02)
    daemon.live.watch.close()
    assert slow.told == ["first", "second"]


def test_a_heartbeat_beside_a_reload_tells_both_watches_who_leads(start: Callable[[datetime], Daemon]) -> None:
    daemon = start(START)
    old = daemon.live.watch
    daemon.reload()
    assert daemon.live.watch._delivery._may.is_set()
    # A heartbeat that began before the reload ends after it.
    old.lead(False)
    assert not daemon.live.watch._delivery._may.is_set()
    daemon.live.watch.close()


def test_a_reload_that_waits_holds_up_no_heartbeat(
    start: Callable[[datetime], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(START)
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def reload() -> None:
        began.set()
        may_end.wait(30)
        ended.set()

    monkeypatch.setattr(daemon, "reload", reload)
    daemon.workers.turns.join(daemon.store.pipeline, lanes(daemon.live.config))
    daemon._beat()
    assert not began.is_set()
    os.utime(daemon.path, (0, 0))
    daemon._beat()
    assert began.wait(30)
    assert not ended.is_set(), "the heartbeat went on before the reload ended"
    may_end.set()
    assert ended.wait(30)


def test_the_daemon_builds_missing_references_by_itself(
    start: Callable[[datetime], Daemon], writer: LiveWriter
) -> None:
    # A reference ends where the window under test begins.
    writer.advance(START + 12 * MINUTE)
    daemon = start(START + 12 * MINUTE)
    daemon.run_each(chores.renewals)
    assert {saved.check for saved in daemon.store.saved_baselines()} == {"contract", "feature_drift"}
    tick(daemon)
    drift = [verdict for verdict in daemon.store.latest() if verdict.check == "feature_drift"]
    assert {verdict.feature: verdict.outcome for verdict in drift} == {
        "device": Outcome.GOOD,
        "app_version": Outcome.GOOD,
    }
    built = daemon.store.saved_baseline("events", "contract")
    move(daemon, timedelta(days=2))
    daemon.run_each(chores.renewals)
    assert daemon.store.saved_baseline("events", "contract") == built, "a contract never renews itself"


def test_health_tells_a_schedule_that_stands_still(start: Callable[[datetime], Daemon]) -> None:
    daemon = start(START + 5 * MINUTE)
    assert daemon.problem() == "the schedule does not run"
    daemon._scheduler.start(paused=True)
    assert daemon.problem() is None
    move(daemon, timedelta(minutes=2))
    assert daemon.problem() == "the schedule has not moved for 120 s"
    daemon._scheduler.shutdown()


def test_a_source_that_grows_quiet_is_named(start: Callable[[datetime], Daemon], writer: LiveWriter) -> None:
    from monitor.faults import Fault

    writer.change_faults((Fault("stalled_feed", START + 5 * MINUTE, START + 30 * MINUTE, source="ios"),))
    writer.advance(START + 13 * MINUTE)
    daemon = start(START + 5 * MINUTE)
    tick(daemon)
    move(daemon, 8 * MINUTE)
    tick(daemon)
    freshness = {verdict.source: verdict for verdict in daemon.store.latest() if verdict.check == "freshness"}
    assert freshness[None].outcome is Outcome.GOOD
    assert freshness["ios"].outcome is Outcome.BAD
    assert freshness["ios"].window == Window(START - 47 * MINUTE, START + 13 * MINUTE)
    assert freshness["android"].outcome is Outcome.GOOD


def test_a_dead_feed_ages_from_the_first_tick_and_what_is_dated_ahead_stays_in_sight(
    start: Callable[[datetime], Daemon], tmp_path: Path
) -> None:
    import duckdb

    rows = f"""SELECT TIMESTAMP '{START - 120 * MINUTE:%F %T}' AS at, 'web' AS app FROM range(50)
        UNION ALL SELECT TIMESTAMP '{START + 120 * MINUTE:%F %T}', 'ios' FROM range(3)"""
    duckdb.connect().execute(f"COPY ({rows}) TO '{tmp_path}/feed.parquet'")
    feed = "{files: FOLDER/feed.parquet, roles: {event_time: at, source: app}, sources: [web, ios]}"
    write(tmp_path, f"pipeline: shop\nstate: sqlite:///FOLDER/state.db\ndatasets: {{events: {feed}}}\n")
    daemon = start(START)
    for _tick in range(2):
        tick(daemon)
        freshness = {verdict.source: verdict for verdict in daemon.store.latest() if verdict.check == "freshness"}
        assert freshness[None].outcome is Outcome.BAD
        assert freshness["ios"].reason == "all 3 rows are dated in the future"
        newest = [
            sample for sample in daemon.store.gauges() if sample.metric == "recwatch_newest_event_timestamp_seconds"
        ]
        assert [sample.value for sample in newest] == [(START - 120 * MINUTE).timestamp()]
        move(daemon, MINUTE / 2)


@pytest.mark.parametrize("is_link_lost", [False, True], ids=["whole", "a link lost"])
def test_late_rows_reopen_just_their_windows(
    start: Callable[[datetime], Daemon], tmp_path: Path, is_link_lost: bool
) -> None:
    """Rows that arrive for windows already judged are counted once, and nothing else is judged again."""
    rejected = tmp_path / "rejected.csv"
    rejected.write_text("at\n2026-03-03 12:00:00\n")
    other = f"  rejected: {{files: {rejected}, roles: {{event_time: at}}}}\nchecks:"
    linked = CONFIG.replace("    features:", "    rejected: rejected\n    features:").replace("checks:", other)
    write(tmp_path, linked.replace("      ingested_at: ingested_at\n", ""))
    late_writer = LiveWriter(STREAM, tmp_path, START)
    late_writer.advance(START + 5 * MINUTE)
    daemon = start(START + 2 * MINUTE)
    tick(daemon)
    move(daemon, 3 * MINUTE)
    tick(daemon)
    before = counted(daemon)
    daemon.run_each(chores.late_rows)
    assert counted(daemon) == before, "nothing is late yet"

    if is_link_lost:
        # Only ingestion reads it.
        rejected.unlink()
    late_writer.advance(START + 10 * MINUTE)  # with rows whose event time lies before minute 5
    move(daemon, timedelta(seconds=30))
    daemon.run_each(chores.late_rows)
    daemon.run_each(chores.late_rows)
    span = (START + MINUTE, START + 5 * MINUTE)
    assert counted(daemon) == rows_by_event_time(late_writer, *span) > before
    with daemon.store.reading() as connection:
        versions = dict(
            connection.exec_driver_sql("SELECT end_us, version FROM windows WHERE check_id = 'contract'").all()
        )
    assert 2 in versions.values()
    assert max(versions.values()) == 2, "judged again once for its late rows, and not for those of others"


def rows_by_event_time(writer: LiveWriter, start: datetime, end: datetime) -> int:
    import duckdb

    span = [moment.replace(tzinfo=None) for moment in (start, end)]
    with duckdb.connect() as connection:
        query = "SELECT count(*) FROM read_parquet(?) WHERE event_time >= ? AND event_time < ?"
        found = connection.execute(query, [f"{writer.folder}/events/*.parquet", *span]).fetchone()
    assert found is not None
    return int(found[0])
