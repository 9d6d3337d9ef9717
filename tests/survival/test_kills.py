"""Killed 200 times at random instants while events keep coming, the daemon counts and tells exactly what happened.

The truth is worked out here, in plain Python, from the rows that were written. What must hold at the end:

- every counter in the state equals the truth, and there is none that this file has no truth for;
- of every check that keeps windows, there is one for each second, judged once;
- each step of each incident reached each channel: the webhook at least once and under one idempotency key, PagerDuty
  under one dedup key for each incident, Slack (which can be asked) as exactly one message and one reply for each step;
- faults of the data were told while it was killed, each with its end, and so is the one after the last kill. (An alarm
  needs an evaluation while it burns, and few lives of a second last long enough for one.)
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import duckdb
import pytest

from monitor.store import Store

LIVES, SHORTEST, LONGEST = 200, 0.05, 1.5
SECOND_US, LOOK_BACK_US, RETRY_US = 1_000_000, 20_000_000, 5_000_000
Spans = dict[str, tuple[int, int]]
INCIDENTS = "SELECT count(DISTINCT incident) FROM transitions"
ENDED = "SELECT count(DISTINCT incident) FROM transitions WHERE json_extract(alert, '$.state') = 'resolved'"
SLOS = {
    "events-contract": "contract", "events-contract-schema": "contract", "events-unknown_ids-user": "unknown_ids",
    "events-duplicates": "duplicates",
}  # fmt: skip
# By what is counted: the objective that counts it, too, and which part is good.
GOOD = {
    "contract_rows": ("events-contract", "valid"), "id_events": ("events-unknown_ids-user", "known"),
    "dedup_events": ("events-duplicates", "first"),
}  # fmt: skip
USERS = [f"u{n}" for n in range(100)]
CALM_SECONDS, BAD_SECONDS = 16, 20

CONFIG = """\
pipeline: shop
state: sqlite:///FOLDER/state.db
server: {port: 0}
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, event_type: kind, event_time: moment, ingested_at: moment}
    users: users
  users:
    files: FOLDER/users.parquet
    roles: {user: user_id}
checks:
  freshness: {enabled: false}
  ingestion: {enabled: false}
  density: {enabled: false}
  popularity: {enabled: false}
  contract: {every: 1s, window: 1s, settle: 3s, min_rows: 1}
  unknown_ids: {every: 1s, window: 1s, settle: 3s, min_rows: 1}
  duplicates: {every: 1s, window: 1s, settle: 3s, min_rows: 1, look_back: 20s, retry_lag: 5s, max_ratio: 0.9}
baselines: {auto: false}
tiers:
  soon:
    - {name: page_soon, severity: page, burn_rate: 5, long: 20s, short: 6s}
slos:
  unknown_ids: {tiers: soon}
channels:
  hook: {type: webhook, url: VENDOR/hook}
  pager: {type: pagerduty, routing_key: canary0pagerduty0routing0key0000, api_url: VENDOR}
  team: {type: slack, token: xoxb-canary, channel: C01, api_url: VENDOR/api/}
notify: {every: 1s, keep_firing: 2s, pages: [hook, pager, team]}
"""


class Feed:
    """Writes a file of rows each second, whole or not at all, and remembers what they were."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.rows = folder, random.Random(seed), list[tuple[str, str | None, int]]()
        (folder / "events").mkdir()
        self.engine, self.files = duckdb.connect(), 0
        self.write([(user,) for user in USERS], "user_id VARCHAR", folder / "users.parquet")
        self.began = time.time()
        # Whether every other user is unknown now; None for now and then.
        self.is_bad: bool | None = None
        self.advance()

    def write(self, rows: list[tuple[Any, ...]], columns: str, path: Path) -> None:
        self.engine.execute(f"CREATE OR REPLACE TABLE t ({columns})")
        self.engine.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)
        hidden = path.with_suffix(".new")
        self.engine.execute(f"COPY t TO '{hidden}' (FORMAT parquet)")
        hidden.rename(path)

    def advance(self) -> None:
        now, fresh = time.time(), []
        is_bad = self.is_bad
        if is_bad is None:
            is_bad = (now - self.began) % (CALM_SECONDS + BAD_SECONDS) > CALM_SECONDS
        for number in range(self.rng.randint(20, 40)):
            user = "ghost" if is_bad and number % 2 else self.rng.choice(USERS)
            # No two rows at one moment, so that which of two copies came first is certain.
            fresh.append((f"e{len(self.rows) + number}", user, int(now * 1e6) + number))
        for number in range(self.rng.randint(0, 3)):
            # A copy of a row of this second, of one just before, or of one a little older.
            earlier = self.rng.choice(fresh if number == 0 or not self.rows else self.rows[-400:])
            fresh.append((earlier[0], None, int(now * 1e6) + 100 + number))
        rows = [(*row[:2], "click", datetime.fromtimestamp(row[2] // 10**6, UTC).replace(
            tzinfo=None, microsecond=row[2] % 10**6)) for row in fresh]  # fmt: skip
        columns = "event_id VARCHAR, user_id VARCHAR, kind VARCHAR, moment TIMESTAMP"
        self.write(rows, columns, self.folder / "events" / f"{self.files:05d}.parquet")
        self.rows += fresh
        self.files += 1

    def truth(self, spans: Spans) -> Counter[tuple[str, ...]]:
        """Return what is to be counted of the windows of each check, by metric and labels of interest."""
        found: Counter[tuple[str, ...]] = Counter()
        for check, (first, last) in spans.items():
            users = [user for _event, user, at in self.rows if first <= at < last]
            unknown, missing = users.count("ghost"), users.count(None)
            if check == "contract":
                found["contract_rows", "valid"] += len(users)
            elif check == "unknown_ids":
                found["id_events", "known"] += len(users) - unknown - missing
                found["id_events", "unknown"] += unknown + missing
                found["id_causes", "unknown"] += unknown
                found["id_causes", "missing"] += missing
            else:
                found += Counter(("dedup_events", split) for at, split in self.copies() if first <= at < last)
        return +found

    def copies(self) -> Iterator[tuple[int, str]]:
        """Yield when each row came, and what it is to rows with the same id before it."""
        seen: dict[str, list[int]] = {}
        for event, _user, at in sorted(self.rows, key=lambda row: row[2]):
            start = at // SECOND_US * SECOND_US
            earlier = [moment for moment in seen.setdefault(event, []) if moment >= start - LOOK_BACK_US]
            seen[event].append(at)
            split = "first"
            if earlier and earlier[0] >= start:
                split = "same_window"
            elif earlier:
                split = "retry" if at - earlier[0] <= RETRY_US else "replay"
            yield at, split


class Vendor:
    """A webhook, PagerDuty and Slack, as far as this needs them; in a process that nobody kills."""

    def __init__(self) -> None:
        self.hooked: list[tuple[str, str]] = []
        self.paged: list[tuple[str, str]] = []
        self.posted: list[dict[str, Any]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
                is_json = "json" in self.headers.get("Content-Type", "")
                asked = (
                    json.loads(raw) if is_json else {name: found[0] for name, found in parse_qs(raw.decode()).items()}
                )
                with lock:
                    body = json.dumps(outer.answer(self.path, asked, self.headers.get("Idempotency-Key", ""))).encode()
                self.send_response(202 if self.path.startswith("/v2") else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self) -> None:
                # Who asked may have been killed meanwhile.
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, asked: dict[str, Any], key: str) -> dict[str, Any]:
        if path == "/hook":
            self.hooked.append((key, asked["state"]))
        elif path.startswith("/v2"):
            self.paged.append((asked["dedup_key"], asked["event_action"]))
            return {"status": "success"}
        elif path.endswith("chat.postMessage"):
            metadata = asked["metadata"]
            asked["metadata"] = json.loads(metadata) if isinstance(metadata, str) else metadata
            self.posted.append({**asked, "ts": f"1.{len(self.posted):06d}"})
            return {"ok": True, "channel": "C01", "ts": self.posted[-1]["ts"]}
        elif path.endswith("conversations.history"):
            return {"ok": True, "messages": [one for one in self.posted if "thread_ts" not in one][::-1]}
        elif path.endswith("conversations.replies"):
            return {"ok": True, "messages": [one for one in self.posted if one.get("thread_ts") == asked["ts"]]}
        return {"ok": True, "channel": "C01", "ts": asked.get("ts", "")}

    @property
    def marks(self) -> list[str]:
        """What Slack's messages and replies say that they are."""
        return [json.dumps(one["metadata"]["event_payload"], sort_keys=True) for one in self.posted]


class Survivor:
    """The daemon's lives, the rows that come meanwhile, and who is told."""

    def __init__(self, folder: Path, seed: int, lives: int) -> None:
        self.vendor, self.folder, self.lives, self.killed = Vendor(), folder, lives, 0
        config = folder / "recwatch.yml"
        config.write_text(CONFIG.replace("FOLDER", str(folder)).replace("VENDOR", self.vendor.url))
        self.feed = Feed(folder, seed)
        arguments = [str(config), str(lives), str(seed), str(SHORTEST), str(LONGEST)]
        with (folder / "daemon.log").open("wb") as log:
            self.server = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("lives.py")), *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip
        self.counting = threading.Thread(target=self._count, daemon=True)
        self.counting.start()

    def _count(self) -> None:
        assert self.server.stdout is not None
        with self.server.stdout as said:
            for line in said:
                self.killed += line == b"killed\n"

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()[-3_000:]

    def feed_until(self, is_so: Any, seconds: float, what: str) -> None:
        ends = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < ends, f"not within {seconds} s: {what}\n{self.log}"
            assert self.server.poll() is None, self.log
            self.feed.advance()
            time.sleep(1)

    def rest(self, what: str) -> None:
        """Feed until nothing fires, and nothing can any more: the longest window of the tier has gone by."""
        calm_at = time.monotonic() + 25
        self.feed_until(
            lambda: time.monotonic() > calm_at and self.ask(INCIDENTS) == self.ask(ENDED), 120, what
        )  # fmt: skip

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        store = Store(f"sqlite:///{self.folder}/state.db", "shop")
        with store.reading() as connection:
            found = [tuple(row) for row in connection.exec_driver_sql(sql).all()]
        store.close()
        return found

    def end(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.close()
        return self.server.wait(timeout=60)


@pytest.fixture
def survivor(tmp_path: Path) -> Iterator[Survivor]:
    seed = int(os.environ.get("RECWATCH_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    sys.stdout.write(f"RECWATCH_KILLS_SEED={seed}\n")
    survivor = Survivor(tmp_path, seed, int(os.environ.get("RECWATCH_KILLS", LIVES)))
    yield survivor
    if survivor.server.poll() is None:
        # The one that starts the lives, and the one that lives.
        os.killpg(survivor.server.pid, 9)
        survivor.server.wait(timeout=30)
    assert survivor.server.stdin is not None
    survivor.server.stdin.close()
    survivor.counting.join()
    survivor.feed.engine.close()
    survivor.vendor.server.shutdown()
    survivor.vendor.server.server_close()


@pytest.mark.slow
def test_killed_200_times_everything_is_counted_once_and_told(survivor: Survivor) -> None:
    survivor.feed_until(lambda: survivor.killed >= survivor.lives, 1.5 * survivor.lives + 60, "all the kills")
    survivor.feed.is_bad = False
    survivor.rest("the end of what fired")
    (told,) = survivor.ask(INCIDENTS)
    assert told[0] >= survivor.lives // LIVES, "something was told while it was killed"
    survivor.feed.is_bad = True
    survivor.feed_until(lambda: survivor.ask(INCIDENTS) > [told], 90, "the last fault is told")
    survivor.feed.is_bad = False
    survivor.rest("its end is told")
    now_us = int(time.time() * 1e6)
    caught_up = f"SELECT min(watermark_us) > {now_us} FROM runs"
    survivor.feed_until(lambda: survivor.ask(caught_up) == [(1,)], 60, "it has caught up")
    waiting = "SELECT count(*) FROM outbox WHERE state <> 'delivered'"
    survivor.feed_until(lambda: survivor.ask(waiting) == [(0,)], 60, "everything is told")
    assert survivor.end() == 0, survivor.log
    assert survivor.killed == survivor.lives
    spans = assert_every_window_is_there_once(survivor)
    assert_every_counter_is_the_truth(survivor, spans)
    assert_everybody_was_told(survivor)


def assert_every_window_is_there_once(survivor: Survivor) -> Spans:
    """Each check begins with the first window that it could commit before a kill, and has all from then on."""
    query = "SELECT check_id, min(start_us), max(end_us), count(*), max(version) FROM windows GROUP BY check_id"
    spans: Spans = {}
    for check, first, last, windows, version in survivor.ask(query):
        assert (windows, version) == ((last - first) // SECOND_US, 1), check
        assert windows > 0.4 * survivor.lives
        spans[check] = (first, last)
    assert set(spans) == {"contract", "unknown_ids", "duplicates"}
    return spans


def assert_every_counter_is_the_truth(survivor: Survivor, spans: Spans) -> None:
    windows = {check: (last - first) // SECOND_US for check, (first, last) in spans.items()}
    counted: Counter[tuple[str, ...]] = Counter()
    for metric, labels, value in survivor.ask("SELECT metric, labels, value + held FROM counters"):
        name, of = metric.removeprefix("recwatch_").removesuffix("_total"), json.loads(labels)
        if name == "ticks_deferred":
            # How busy the machine was: what had to wait was judged later, and is among the windows.
            continue
        if name in ("check_runs", "slo_checks"):
            # However they ended, one for each window; an error would be a second one.
            assert of.get("outcome") != "error" or value == 0
            counted[name, of.get("check") or of["slo"]] += value
        elif name == "notifications":
            counted[name, of["channel"], of["result"]] += value
        else:
            counted[name, of.get("slo", "") + (of.get("result") or of.get("cause") or of["rule"])] += value
    expected = survivor.feed.truth(spans)
    expected += Counter({("check_runs", check): n for check, n in windows.items()})
    for slo, check in SLOS.items():
        expected["slo_checks", slo] = windows[check]
    for (name, result), rows in list(expected.items()):
        if name in GOOD:
            expected["slo_events", GOOD[name][0] + ("good" if result == GOOD[name][1] else "bad")] += rows
    told = survivor.ask("SELECT channel, count(*) FROM outbox GROUP BY channel")
    expected += Counter({("notifications", channel, "delivered"): n for channel, n in told})
    assert +counted == expected


def assert_everybody_was_told(survivor: Survivor) -> None:
    steps = survivor.ask("SELECT incident, number, alert FROM transitions ORDER BY id")
    incidents = {incident for incident, _number, _alert in steps}
    for incident in incidents:
        numbers = [number for found, number, _alert in steps if found == incident]
        assert numbers == list(range(1, len(numbers) + 1)), "no step is missing"
    # By webhook each step at least once; what came twice has the same key, so that the other side can tell.
    keys = {f"{incident}/{number}" for incident, number, _alert in steps}
    assert {key for key, _state in survivor.vendor.hooked} == keys
    assert len(survivor.vendor.hooked) - len(keys) < survivor.lives / 10
    ends = {key.rpartition("/")[0] for key, state in survivor.vendor.hooked if state == "resolved"}
    assert ends == incidents, "each one's end was told"
    # PagerDuty makes one alert of all that has the same key.
    assert {key for key, _action in survivor.vendor.paged} == incidents
    assert {key for key, action in survivor.vendor.paged if action == "resolve"} == incidents
    assert {action for _key, action in survivor.vendor.paged} == {"trigger", "resolve"}
    # Slack is asked after a kill, and never told twice.
    twice = [mark for mark, times in Counter(survivor.vendor.marks).items() if times > 1]
    assert not twice
    assert len([one for one in survivor.vendor.posted if "thread_ts" not in one]) == len(incidents)
