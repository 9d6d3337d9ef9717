"""Two daemons on one PostgreSQL state: the leader is killed, and no message is lost or doubled."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from monitor.demo import free_port
from monitor.faults import Fault
from monitor.stream import LiveWriter, Stream, StreamSettings

CONFIG = """\
pipeline: twins
state: STATE
server: {port: PORT}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, item: item_id, event_type: event_type, event_time: event_time,
            ingested_at: ingested_at, source: source}
checks:
  freshness: {enabled: false}
  ingestion: {enabled: false}
  contract: {enabled: false}
  duplicates: {enabled: false}
  density: {enabled: false}
  popularity: {enabled: false}
  unknown_ids: {every: 1s, window: 1s, settle: 1s, min_rows: 1}
tiers:
  soon:
    - {name: page_soon, severity: page, burn_rate: 5, long: 20s, short: 6s}
slos:
  unknown_ids: {tiers: soon}
channels:
  here: {type: console}
notify: {every: 1s, keep_firing: 3s}
"""


class Twin:
    def __init__(self, folder: Path, state: str, name: str) -> None:
        self.port, self.path = free_port(), folder / f"{name}.log"
        config = folder / f"{name}.yml"
        text = CONFIG.replace("STATE", state).replace("PORT", str(self.port)).replace("FOLDER", str(folder))
        config.write_text(text)
        with self.path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "-c", str(config)], stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self.path.read_text()

    def leads(self) -> bool | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as response:
                return 'recwatch_leader{pipeline="twins"} 1.0' in response.read().decode()
        except OSError:
            return None


@pytest.mark.slow
def test_the_other_takes_over_and_tells_the_end_once(postgresql: str, tmp_path: Path) -> None:
    server = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE twins"))
    state = server.url.set(database="twins").render_as_string(hide_password=False)
    server.dispose()
    stream = Stream(StreamSettings(events_per_second=40, users=2_000, items=300))
    writer = LiveWriter(stream, tmp_path, datetime.now(UTC) - timedelta(minutes=1))

    def wait_for(what: str, is_so: Callable[[], Any], seconds: float = 150) -> None:
        ends = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < ends, f"not within {seconds} s: {what}: {twins[0].said} {twins[1].said}"
            writer.advance(datetime.now(UTC))
            time.sleep(0.2)

    writer.advance(datetime.now(UTC))
    twins = [Twin(tmp_path, state, "first")]
    try:
        wait = time.monotonic() + 30
        while not twins[0].leads() and time.monotonic() < wait:
            time.sleep(0.2)
        twins.append(Twin(tmp_path, state, "second"))
        wait_for("one leads and the other stands by", lambda: (twins[0].leads(), twins[1].leads()) == (True, False))
        calm = time.monotonic() + 12
        wait_for("a calm history", lambda: time.monotonic() > calm)
        began = datetime.now(UTC)
        writer.change_faults((Fault("missing_users", began, began + timedelta(minutes=5), 0.6),))
        wait_for("a page", lambda: "PAGE twins: unknown ids of events" in twins[0].said)
        twins[0].process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        wait_for("the other leads", twins[1].leads)
        assert time.monotonic() - killed < 40, "within seconds, on a busy machine too"
        writer.change_faults(())
        wait_for("the end", lambda: "RESOLVED twins" in twins[1].said)
    finally:
        for twin in twins:
            twin.process.kill()
            twin.process.wait(timeout=30)
    both = twins[0].said + twins[1].said
    assert both.count(" PAGE twins: unknown ids of events") == 1, both
    assert both.count(" RESOLVED twins: unknown ids of events") == 1, both
