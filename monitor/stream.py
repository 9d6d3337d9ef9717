"""A made-up but realistic stream of recommender events, as frames and as files.

The same settings give the same events, however the span is cut and wherever it starts: each slice of time has
a seed of its own. No function reads the real clock; times without a zone are UTC. What is not here: what a
row is made of and what can go wrong with it, see `monitor/faults.py`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
import pandas as pd
from duckdb import DuckDBPyConnection

# isort: off
from monitor.faults import (
    CLIENT_TABLE, DROPPED, EVENT_TYPE_SHARES, LANDED, LONGEST_RETRY_SECONDS, REJECTED, SEMANTIC_GAP_US,
    SOURCES, Array, Dirt, Fault, Rows, World, coded, frame_of, join, mix, schema_columns, strike, take, times,
    to_us, to_utc, with_natural_retries,
)  # fmt: skip
# isort: on

CATEGORIES = ("books", "music", "film", "games", "sport", "garden", "kitchen", "toys", "shoes", "tools")
COUNTRIES = {"DE": 0.3, "FR": 0.2, "GB": 0.2, "ES": 0.12, "NL": 0.1, "SE": 0.08}
FIRST_ITEM = 100_000
LONGEST_DELAY_SECONDS = 300  # no event lands later than this after it happened, unless a fault holds it back
_REACH = timedelta(seconds=LONGEST_DELAY_SECONDS + LONGEST_RETRY_SECONDS)
_DAY_US = 86_400_000_000

# Column to SQL expression, by dataset. Types are spelt out where a column that is all null in one file would
# be of another type there; categories keep theirs, and are written faster without a cast.
COLUMNS = {
    dataset: {column.split("::")[0]: column for column in columns.split()}
    for dataset, columns in {
        "events": "event_id::VARCHAR user_id::VARCHAR item_id::BIGINT event_type event_time::TIMESTAMP "
        "ingested_at::TIMESTAMP source value device app_version position::INTEGER",
        "sent": "bucket_start::TIMESTAMP source sent::BIGINT",
        "rejected": "event_id::VARCHAR event_time::TIMESTAMP ingested_at::TIMESTAMP source reason",
        "items": "item_id::BIGINT category price::DOUBLE created_at::TIMESTAMP retired_at::TIMESTAMP",
        "users": "user_id::VARCHAR country created_at::TIMESTAMP",
    }.items()
}
COLUMNS["events"]["value"] = "CASE WHEN value_is_nan THEN 'nan' ELSE value END::DOUBLE"
STREAMED = ("events", "sent", "rejected")
Progress: TypeAlias = Callable[[datetime, int], None]


@dataclass(frozen=True)
class StreamSettings:
    """Everything that decides what the stream holds.

    Attributes:
        seed: Other seeds give other events, users and items.
        events_per_second: Average over a week, above 0.
        users: Size of the user table. Below about 20 users for each event per second, chance alone repeats
            (user, item, type) within 2 s often enough to look like semantic retries.
        items: Size of the catalogue, at least 20.
        item_exponent: Share of the item of rank r is 1 / r to this power.
        rhythm: Depth of the daily and weekly rhythm, 0 (flat) to 1.
        slice_seconds: Width of the slices that have a seed of their own; 0 chooses 1 to 60 s by the rate.
        sent_bucket_seconds: Width of the buckets in which the gateway counts sends.
        world_start: Users and items were made before this; no event is older.
        dirt: What is always a little wrong.
    """

    seed: int = 1
    events_per_second: float = 100.0
    users: int = 20_000
    items: int = 5_000
    item_exponent: float = 1.0
    rhythm: float = 1.0
    slice_seconds: int = 0
    sent_bucket_seconds: int = 1
    world_start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    dirt: Dirt = field(default_factory=Dirt)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        floors = {"events_per_second": 1e-6, "users": 1, "items": 20, "sent_bucket_seconds": 1}
        for name in ("seed", "rhythm", "slice_seconds", *floors):
            floor, value = floors.get(name, 0), getattr(self, name)
            if value < floor or (name == "rhythm" and value > 1):
                raise ValueError(f"stream: {name} must be {floor} or more (rhythm at most 1), got {value}")

    @property
    def slice_us(self) -> int:
        """Width of a slice in microseconds; at most 50,000 events or 1 s unless set."""
        fitting = (s for s in (60, 30, 20, 10, 5, 2) if s * self.events_per_second <= 50_000)
        return (self.slice_seconds or next(fitting, 1)) * 1_000_000


@dataclass(frozen=True)
class Batch:
    """What became of the events of a span: sent = landed without copies + rejected + dropped, by source."""

    events: pd.DataFrame  # landed, or will land at `ingested_at`; in the order in which they happened
    sent: pd.DataFrame  # what the gateway counted, by bucket and source; no row for none
    rejected: pd.DataFrame  # refused at the gate
    dropped: pd.DataFrame  # id, time and source of what was lost without a word: the truth, for tests


class Stream:
    """Draws users, items and events; it remembers nothing but the last two slices."""

    def __init__(self, settings: StreamSettings | None = None) -> None:
        """Make the shop: about 0.1 s for the default settings."""
        self.settings = settings or StreamSettings()
        rng = np.random.default_rng([self.settings.seed, 0])
        items, users = self.settings.items, self.settings.users
        by_rank = rng.permutation(items)
        self._retired = rng.choice(by_rank[items // 2 :], size=items // 50, replace=False)
        share = np.arange(1, items + 1) ** -float(self.settings.item_exponent)
        share[np.isin(by_rank, self._retired)] = 0
        self._item_table = by_rank[_lookup(share)]
        self._item_log_price = rng.standard_normal(items)
        self._user_table = _lookup(rng.lognormal(0, 1.2, users))
        self._client_table = _lookup(CLIENT_TABLE[:, 3])
        self._client_codes = CLIENT_TABLE[:, :3].T.astype(np.int8)
        self._kind_table = _lookup(np.array(EVENT_TYPE_SHARES)).astype(np.int8)
        self._position_table = 1 + _lookup(0.82 ** np.arange(20)).astype(np.int32)
        top = FIRST_ITEM + by_rank[: max(10, items // 100)]
        self._world = World(users, FIRST_ITEM + items, FIRST_ITEM + int(by_rank[items // 4]), top)
        self._user_names = np.array([*(f"u{n:07d}" for n in range(users)), "", None], dtype=object)
        self._slice = lru_cache(maxsize=2)(self._draw)

    def catalogue(self) -> pd.DataFrame:
        """Return the items; 2 % were retired before the world starts, and have no events."""
        n, rng = self.settings.items, np.random.default_rng([self.settings.seed, 1])
        start_us = to_us(self.settings.world_start)
        retired = np.full(n, "NaT", dtype="datetime64[us]")
        retired[self._retired] = times(start_us - rng.integers(_DAY_US, _DAY_US * 100, self._retired.size))
        category = coded(rng.integers(0, len(CATEGORIES), n), CATEGORIES)
        price = np.round(np.exp(3 + 0.8 * self._item_log_price), 2)
        created = times(start_us - rng.integers(_DAY_US * 200, _DAY_US * 900, n))
        columns = (FIRST_ITEM + np.arange(n), category, price, created, retired)
        return pd.DataFrame(dict(zip(COLUMNS["items"], columns, strict=True)))

    def users(self) -> pd.DataFrame:
        """Return the user table."""
        n, rng = self.settings.users, np.random.default_rng([self.settings.seed, 2])
        country = rng.choice(len(COUNTRIES), n, p=np.array(list(COUNTRIES.values())))
        created = times(to_us(self.settings.world_start) - rng.integers(_DAY_US, _DAY_US * 1500, n))
        columns = (self._user_names[:n], coded(country, COUNTRIES), created)
        return pd.DataFrame(dict(zip(COLUMNS["users"], columns, strict=True)))

    def rate(self, moment_us: int) -> float:
        """Return the expected events per second at a time (microseconds since 1970); peak near 19 h UTC."""
        days, rhythm = moment_us / _DAY_US, self.settings.rhythm
        swing = 0.5 * np.cos(2 * np.pi * (days - 17 / 24)) + 0.15 * np.cos(4 * np.pi * (days - 20 / 24))
        weekly = 0.08 * np.cos(2 * np.pi * (days - 2) / 7)
        return float(self.settings.events_per_second * (1 + rhythm * swing) * (1 + rhythm * weekly))

    def events(self, start: datetime, end: datetime, faults: tuple[Fault, ...] = ()) -> Batch:
        """Return what happened in [start, end), all in memory.

        Rows belong to the span by when they truly happened, which is their event time unless a fault has
        falsified it. `schema_change` has no effect here: it acts where files are written.

        Raises:
            ValueError: The end is before the start, or the start is before the world.
        """
        start_us, end_us, slice_us = to_us(start), to_us(end), self.settings.slice_us
        if not to_us(self.settings.world_start) <= start_us <= end_us:
            raise ValueError(f"stream: start must be from {self.settings.world_start} to {end}, got {start}")
        # A semantic retry may happen in a later slice than its original.
        reach_us = SEMANTIC_GAP_US if any(fault.kind == "semantic_retry" for fault in faults) else 0
        first = (start_us - reach_us) // slice_us
        parts = []
        for number in range(first, max(first, (end_us - 1) // slice_us) + 1):
            rows = self._slice(number, faults)
            parts.append(take(rows, slice(*np.searchsorted(rows["happened_us"], [start_us, end_us]))))
        rows = join(parts)
        if reach_us:
            rows = take(rows, np.argsort(rows["happened_us"], kind="stable"))
        return self._batch(rows)

    def _draw(self, number: int, faults: tuple[Fault, ...]) -> Rows:
        rows = strike(self._healthy(number), faults, self._world, at_ingest=False)
        rows = with_natural_retries(rows, self.settings.dirt.duplicate_ratio)
        rows = strike(rows, faults, self._world, at_ingest=True)
        # An event is lost only if none of its copies came through.
        saved = rows["id"][rows["copy"] & (rows["outcome"] == LANDED)]
        rows["saved"] = (rows["outcome"] == DROPPED) & np.isin(rows["id"], saved)
        return take(rows, np.argsort(rows["happened_us"], kind="stable"))

    def _healthy(self, number: int) -> Rows:
        slice_us, seed = self.settings.slice_us, self.settings.seed
        rng = np.random.default_rng([seed, 3, number])
        n = int(rng.poisson(self.rate(number * slice_us + slice_us // 2) * slice_us / 1e6))
        happened = number * slice_us + np.sort(rng.integers(0, slice_us, n))
        client, item = _pick(self._client_table, rng, n), _pick(self._item_table, rng, n)
        # The value follows the item's price only loosely (offers, quantities, currencies), so that the faults
        # that move items do not move this feature too.
        value = np.exp(3 + 0.3 * self._item_log_price[item] + 0.75 * rng.standard_normal(n))
        fate = np.searchsorted(self.settings.dirt.edges, rng.random(n), side="right")
        delay = np.minimum(0.8 * np.exp(0.5 * rng.standard_normal(n)), 30)
        late = np.clip(60 * np.exp(0.3 * rng.standard_normal(n)), 30, LONGEST_DELAY_SECONDS)
        user, newest = _pick(self._user_table, rng, n), self.settings.items + rng.integers(0, 50, n)
        counter = np.arange(n, dtype=np.uint64) + (np.uint64(number) << np.uint64(32))
        return {
            "happened_us": happened,
            "event_us": happened.copy(),
            "ingested_us": happened + (np.where(fate == 5, late, delay) * 1e6).astype(np.int64),
            "id": mix(counter + mix(np.array([seed], dtype=np.uint64))),
            "user": np.where(fate == 0, -1, np.where(fate == 1, self.settings.users, user)),
            "item": FIRST_ITEM + np.where(fate == 2, newest, item),
            "kind": _pick(self._kind_table, rng, n),
            "source": self._client_codes[0][client],
            "device": self._client_codes[1][client],
            "version": self._client_codes[2][client],
            "position": _pick(self._position_table, rng, n),
            "value": np.round(value, 2),
            "no_value": np.zeros(n, dtype=bool),
            "outcome": np.select([fate == 3, fate == 4], [REJECTED, DROPPED], LANDED).astype(np.int8),
            "reason": (happened % 2).astype(np.int8),
            "copy": np.zeros(n, dtype=bool),
        }

    def _batch(self, rows: Rows) -> Batch:
        first, outcome, names = ~rows["copy"], rows["outcome"], self._user_names
        lost = take(rows, first & (outcome == DROPPED) & ~rows["saved"])
        return Batch(
            events=frame_of(take(rows, outcome == LANDED), COLUMNS["events"], names),
            sent=self._sent(take(rows, first)),
            rejected=frame_of(take(rows, first & (outcome == REJECTED)), COLUMNS["rejected"], names),
            dropped=frame_of(lost, ("event_id", "event_time", "source"), names),
        )

    def _sent(self, rows: Rows) -> pd.DataFrame:
        bucket_us = self.settings.sent_bucket_seconds * 1_000_000
        bucket = rows["happened_us"] // bucket_us
        base = bucket[0] if bucket.size else 0
        sent = np.bincount((bucket - base) * len(SOURCES) + rows["source"])
        keys = np.flatnonzero(sent)
        start, source = times((keys // len(SOURCES) + base) * bucket_us), coded(keys % len(SOURCES), SOURCES)
        return pd.DataFrame({"bucket_start": start, "source": source, "sent": sent[keys]})


def _lookup(weights: Array) -> Array:
    # One memory access per draw instead of a search. Shares are rounded to one cell of the table.
    cells = 2 ** int(np.clip(np.ceil(np.log2(64 * weights.size)), 16, 22))
    share = np.cumsum(weights / weights.sum())
    found: Array = np.searchsorted(share, (np.arange(cells) + 0.5) / cells)
    return np.minimum(found, weights.size - 1)


def _pick(table: Array, rng: np.random.Generator, n: int) -> Array:
    return np.asarray(table[rng.integers(0, table.size, n, dtype=np.uint32)])


def write(batch: Batch, folder: Path, name: str) -> None:
    """Write a whole batch, rows that land later included, as `folder`/events/`name`.parquet and so on."""
    engine = duckdb.connect()
    for dataset in STREAMED:
        path = Path(folder, dataset, f"{name}.parquet")
        write_frame(getattr(batch, dataset), path, COLUMNS[dataset], engine)


def write_frame(frame: pd.DataFrame, path: Path, columns: dict[str, str], engine: DuckDBPyConnection) -> None:
    """Write a Parquet file (columns: see `COLUMNS`) that readers see whole or not at all; none if no rows."""
    if frame.empty:
        return
    if "value" in frame:
        # The engine reads any NaN of a frame as null, so NaN has to be told apart.
        frame = frame.assign(value_is_nan=np.isnan(frame["value"].to_numpy(dtype=float, na_value=0.0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.part")
    select = ", ".join(f'{sql} AS "{name}"' for name, sql in columns.items())
    target = str(hidden).replace("'", "''")
    engine.register("frame", frame)
    engine.execute(f"COPY (SELECT {select} FROM frame) TO '{target}' (FORMAT parquet)")
    engine.unregister("frame")
    os.replace(hidden, path)


@dataclass
class LiveWriter:
    """Writes what became visible between calls: a row is visible from `ingested_at`, a bucket from its end.

    Files: items.parquet and users.parquet, written at once; in events/, sent/ and rejected/ one file for each
    call that has rows (one more where the schema changes or `rows_per_file` is passed), in order of arrival.

    Attributes:
        stream: What happens.
        folder: Where to write.
        start: Everything visible by then counts as written.
        since: Nothing happened before; None for `start`, which makes a new world. To go on with the files of
            an earlier writer, give the start of that one, and the faults it had.
        faults: What goes wrong; `change_faults` changes it later.
        rows_per_file: About how many rows of events a file may hold; bounds the memory.
    """

    stream: Stream
    folder: Path
    start: datetime
    since: datetime | None = None
    faults: tuple[Fault, ...] = ()
    rows_per_file: int = 500_000

    def __post_init__(self) -> None:
        """Write the two tables, and collect what happened before `start` and is not visible yet."""
        self.folder, self._now, self._engine = Path(self.folder), to_utc(self.start), duckdb.connect()
        for dataset, frame in (("items", self.stream.catalogue()), ("users", self.stream.users())):
            write_frame(frame, self.folder / f"{dataset}.parquet", COLUMNS[dataset], self._engine)
        self._look_back()

    def advance(self, now: datetime, progress: Progress | None = None) -> dict[str, int]:
        """Write all that became visible after the last call, up to and with `now`; return rows by dataset.

        `progress` is called after each file, with the time reached and the events written by this call.

        Raises:
            ValueError: Time went backwards.
        """
        now = to_utc(now)
        if now < self._now:
            raise ValueError(f"writer: now must be at least {self._now}, got {now}")
        written = dict.fromkeys(STREAMED, 0)
        while self._now < now:
            stop = self._next_stop(now)
            self._hold(self.stream.events(self._now, stop, self.faults))
            for dataset, frame in self._release(stop).items():
                active = self.faults if dataset == "events" else ()
                columns = schema_columns(COLUMNS[dataset], active, to_us(stop))
                path = self.folder / dataset / f"{stop:%Y%m%dT%H%M%S.%fZ}.parquet"
                write_frame(frame, path, columns, self._engine)
                written[dataset] += len(frame)
            self._now = stop
            if progress:
                progress(stop, written["events"])
        return written

    def change_faults(self, faults: tuple[Fault, ...]) -> None:
        """Replace the faults from the last call on; what is written stays as it is.

        New faults may start then or later. To end one early, replace its `end`; do not leave it out.
        """
        self.faults = faults
        self._look_back()

    def _look_back(self) -> None:
        # Drawn again rather than kept, so that a new fault of the pipe holds rows that are on their way.
        held = [to_utc(fault.start) for fault in self.faults if fault.kind == "delayed_feed"]
        self._pending: dict[str, pd.DataFrame] = {}
        reach = _REACH + timedelta(seconds=self.stream.settings.sent_bucket_seconds)
        at = max(to_utc(self.since or self.start), min([self._now, *held]) - reach)
        while at < self._now:
            stop = min(self._now, at + self._step(at))
            self._hold(self.stream.events(at, stop, self.faults))
            self._release(self._now)
            at = stop

    def _step(self, at: datetime) -> timedelta:
        return timedelta(seconds=max(1.0, self.rows_per_file / self.stream.rate(to_us(at))))

    def _next_stop(self, now: datetime) -> datetime:
        changes = (f for f in self.faults if f.kind == "schema_change")
        # A file holds what was visible up to and with its name, so it ends just before a change.
        edges = (to_utc(edge) - timedelta.resolution for f in changes for edge in (f.start, f.end))
        return min(now, self._now + self._step(self._now), *(edge for edge in edges if edge > self._now))

    def _hold(self, batch: Batch) -> None:
        for dataset in STREAMED:
            frames = [frames[dataset] for frames in (self._pending, vars(batch)) if dataset in frames]
            self._pending[dataset] = pd.concat(frames, ignore_index=True)

    def _release(self, stop: datetime) -> dict[str, pd.DataFrame]:
        due, bucket = {}, pd.Timedelta(seconds=self.stream.settings.sent_bucket_seconds)
        for dataset, frame in self._pending.items():
            visible = frame["bucket_start"] + bucket if dataset == "sent" else frame["ingested_at"]
            moments_us = visible.to_numpy().astype("datetime64[us]").astype(np.int64)
            order = np.argsort(moments_us, kind="stable")
            seen = int(np.searchsorted(moments_us[order], to_us(stop), side="right"))
            due[dataset], self._pending[dataset] = frame.iloc[order[:seen]], frame.iloc[order[seen:]]
        # A bucket that was cut by a call comes in two parts.
        due["sent"] = due["sent"].groupby(["bucket_start", "source"], observed=True, as_index=False).sum()
        return due


def write_history(
    stream: Stream,
    folder: Path,
    span: tuple[datetime, datetime],
    rows_per_file: int = 500_000,
    progress: Progress | None = None,
) -> LiveWriter:
    """Write all that was visible at the end of a span before which nothing happened.

    Returns:
        The writer, ready to go on live. For a history with faults, advance a `LiveWriter` that has them.
    """
    writer = LiveWriter(stream, folder, span[0], rows_per_file=rows_per_file)
    writer.advance(span[1], progress)
    return writer
