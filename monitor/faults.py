"""Rows of the made-up stream, and what goes wrong with them: always a little, or for a time and by order.

A fault changes rows while they are drawn, so it is exact to the microsecond and repeats with the seed. Rows
out of its reach are the same, bit for bit, with and without it. What is not here: the draw of healthy rows
and the writing of files, see `monitor/stream.py`.
"""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Rows: TypeAlias = dict[str, Array]
"""Deliveries of events, one array per column, all of one length.

`happened_us` (true time), `event_us` (what the row claims) and `ingested_us` in microseconds since 1970;
`id` (unsigned 64 bit); `user` (index, -1 null, the one after the last blank); `item` (id); `kind`, `source`,
`device`, `version` and `reason` (index into the names below, -1 null); `position`; `value` and `no_value`
(null, where a NaN is a number gone wrong); `outcome`; `copy` (True for a second delivery of the same event).
"""

EVENT_TYPES = ("view", "click", "add_to_cart", "purchase", "wishlist_add")
EVENT_TYPE_SHARES = (0.80, 0.15, 0.035, 0.015, 0.0)
REASONS = ("not_json", "too_large", "refused_by_contract")
# Share of each source, then of devices and app versions within it.
_CLIENTS: dict[str, tuple[float, dict[str, float], dict[str, float]]] = {
    "ios": (0.45, {"iphone": 0.85, "ipad": 0.15}, {"ios-8.2.0": 0.6, "ios-8.1.3": 0.3, "ios-7.9.1": 0.1}),
    "android": (0.30, {"pixel": 0.9, "android_tablet": 0.1}, {"android-8.2": 0.6, "android-8.1": 0.4}),
    "web": (0.22, {"desktop": 0.6, "mobile_web": 0.4}, {"web-2026.1": 0.9, "web-2025.9": 0.1}),
    "partner": (0.03, {"server": 1.0}, {"partner-api-3": 0.7, "partner-api-2": 0.3}),
}
SOURCES = tuple(_CLIENTS)
DEVICES = tuple(device for _, devices, _ in _CLIENTS.values() for device in devices)
VERSIONS = tuple(version for _, _, versions in _CLIENTS.values() for version in versions)
# For each kind of client: the codes of its source, device and version, and its share of events.
CLIENT_TABLE = np.array([
    (SOURCES.index(source), DEVICES.index(device), VERSIONS.index(version), share * of_devices * of_versions)
    for source, (share, devices, versions) in _CLIENTS.items()
    for device, of_devices in devices.items()
    for version, of_versions in versions.items()
])  # fmt: skip
LANDED, REJECTED, DROPPED = 0, 1, 2
SEMANTIC_GAP_US = 1_900_000  # longest time from an event to its semantic retry; the definition says 2 s
LONGEST_RETRY_SECONDS = 300  # no copy lands later than this after its original, unless a fault holds it back
_BACKLOG_US, _FUTURE_US = 5_000_000, 2 * 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_utc(moment: datetime) -> datetime:
    """Return the time in UTC; a time without a zone is read as UTC."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970 UTC; a time without a zone is read as UTC."""
    return (to_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def times(moments_us: Array) -> Array:
    """Return microseconds since 1970 as timestamps without a zone."""
    return moments_us.astype("datetime64[us]")


@dataclass(frozen=True)
class Dirt:
    """What is always a little wrong, as ratios of events from 0 to 1; far below the default limits."""

    missing_user_ratio: float = 0.001  # half null, half blank
    unknown_item_ratio: float = 0.0005  # newer than the catalogue
    rejected_ratio: float = 0.0001
    dropped_ratio: float = 0.00005  # lost without a word
    duplicate_ratio: float = 0.0005  # landed a second time, within 5 minutes
    late_ratio: float = 0.01  # landed about a minute late: 30 s to 5 min

    @property
    def edges(self) -> Array:
        """Where one fate ends in [0, 1): user null, user blank, unknown item, rejected, dropped, late."""
        half, lost = self.missing_user_ratio / 2, (self.rejected_ratio, self.dropped_ratio)
        return np.cumsum([half, half, self.unknown_item_ratio, *lost, self.late_ratio])


@dataclass(frozen=True)
class World:
    """What faults need to know of the made-up shop."""

    users: int  # indices run from 0
    unknown_item: int  # from this item id on, nothing is in the catalogue
    hot_item: int  # a middling item
    top_items: Array  # ids of the most popular 1 % (at least 10), best first


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, for a time, with everything or with one source.

    Attributes:
        kind: A key of `KINDS`.
        start: First moment of the fault.
        end: First moment after it.
        strength: Share of the rows in reach that are hit, above 0 to 1 (`price_shift`: relative change of the
            value, above -1; `schema_change`: not used). None takes the default of the kind.
        source: Only rows of this source; None takes the default of the kind, which is mostly all sources.
        variant: One of the variants of the kind. Empty takes the first (`corrupt_values`: all three).
    """

    kind: str
    start: datetime
    end: datetime
    strength: float | None = None
    source: str | None = None
    variant: str = ""

    def __post_init__(self) -> None:
        """Refuse what could not be applied."""
        if self.kind not in KINDS:
            raise ValueError(f"fault: kind must be one of {', '.join(KINDS)}, got {self.kind}")
        low, high = (-1.0, float("inf")) if self.kind == "price_shift" else (0.0, 1.0)
        variants = KINDS[self.kind].variants
        rules = {
            "end": (to_us(self.end) > to_us(self.start), f"after {self.start}"),
            "strength": (low < self.power <= high, f"above {low} and at most {high}"),
            "source": (self.source in (None, *SOURCES), f"one of {', '.join(SOURCES)}"),
            "variant": (self.variant in ("", *variants), f"one of {', '.join(variants)}, or empty"),
        }
        for name, (is_kept, rule) in rules.items():
            if not is_kept:
                raise ValueError(f"fault {self.kind}: {name} must be {rule}, got {getattr(self, name)}")

    @property
    def power(self) -> float:
        """The strength, or the default of the kind."""
        return KINDS[self.kind].strength if self.strength is None else self.strength


@dataclass(frozen=True)
class Kind:
    """One kind of fault; `effect` says what happens in the world."""

    apply: "Callable[[_Hit], Rows | None]"  # changes rows in place, or returns rows that replace all of them
    seen_by: tuple[str, ...]  # checks that must turn bad at the default strength
    effect: str
    may_follow: tuple[str, ...] = ()  # checks that may turn bad as a consequence
    strength: float = 1.0
    source: str | None = None
    variants: tuple[str, ...] = ()
    at_ingest: bool = False  # the pipe broke: the span is compared with the time of ingestion


@dataclass(frozen=True)
class _Hit:
    fault: Fault
    rows: Rows
    index: Array
    world: World
    salt: int

    def random(self) -> Array:
        return luck(self.get("id"), self.salt + 1)

    def get(self, column: str) -> Array:
        return np.asarray(self.rows[column][self.index])

    def set(self, column: str, value: Array | float) -> None:
        self.rows[column][self.index] = value


def take(rows: Rows, index: Array | slice) -> Rows:
    """Return the chosen rows, by mask, positions or slice."""
    return {name: column[index] for name, column in rows.items()}


def join(parts: list[Rows]) -> Rows:
    """Return the rows of all parts, in order; `parts` is not empty."""
    return parts[0] if len(parts) == 1 else {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def mix(ids: Array) -> Array:
    """Return a one-to-one scramble of unsigned 64-bit numbers (the finish of splitmix64)."""
    ids = (ids ^ (ids >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    ids = (ids ^ (ids >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(ids ^ (ids >> np.uint64(31)))


def coded(codes: Array, names: Iterable[str]) -> pd.Categorical:
    """Return the codes (-1 is null) as a column of text."""
    # The type is named, since pandas would take Arrow's text where that is installed.
    return pd.Categorical.from_codes(codes, pd.Index(list(names), dtype=object))


def luck(ids: Array, salt: int) -> Array:
    """Return a number in [0, 1) for each id.

    It hangs on nothing else: so one fault does not disturb another, nor its early end what it did before.
    """
    return np.asarray((mix(ids + np.uint64(salt)) >> np.uint64(11)) * 2.0**-53)


def frame_of(rows: Rows, names: Iterable[str], user_names: Array) -> pd.DataFrame:
    """Return the named columns as a frame; ids are of type object, other text is of type category."""

    def event_ids() -> list[str]:
        text = rows["id"].astype(">u8").tobytes().hex()
        return [text[at : at + 16] for at in range(0, len(text), 16)]

    makers: dict[str, Callable[[], Any]] = {
        "event_id": lambda: pd.Series(event_ids(), dtype=object),
        "user_id": lambda: pd.Series(user_names[rows["user"]], dtype=object),
        "item_id": lambda: rows["item"],
        "event_type": lambda: coded(rows["kind"], EVENT_TYPES),
        "event_time": lambda: times(rows["event_us"]),
        "ingested_at": lambda: times(rows["ingested_us"]),
        "source": lambda: coded(rows["source"], SOURCES),
        "value": lambda: pd.arrays.FloatingArray(rows["value"], rows["no_value"]),
        "device": lambda: coded(rows["device"], DEVICES),
        "app_version": lambda: coded(rows["version"], VERSIONS),
        "position": lambda: rows["position"],
        "reason": lambda: coded(rows["reason"], REASONS),
    }
    return pd.DataFrame({name: makers[name]() for name in names})


def with_retries(rows: Rows, index: Array, delay_seconds: Array) -> Rows:
    """Return the rows and exact copies of those in `index`, ingested `delay_seconds` later if they landed."""
    copies = take(rows, index)
    copies["ingested_us"] = copies["ingested_us"] + (delay_seconds * 1e6).astype(np.int64)
    copies["copy"] = np.ones(copies["id"].size, dtype=bool)
    return join([rows, copies])


def with_natural_retries(rows: Rows, ratio: float) -> Rows:
    """Return the rows and copies of a share of them, mostly seconds later, some minutes."""
    chance = luck(rows["id"], 1)
    again = np.flatnonzero((chance < ratio) & ~rows["copy"])
    return with_retries(rows, again, 1 + 0.99 * LONGEST_RETRY_SECONDS * (chance[again] / ratio) ** 3)


def strike(rows: Rows, faults: Iterable[Fault], world: World, at_ingest: bool) -> Rows:
    """Apply faults to rows, in the order of `KINDS`; `rows` may be changed in place.

    `at_ingest` chooses the kinds that act by time of ingestion, or the others; natural retries come between.
    """
    order = list(KINDS)
    for fault in sorted(faults, key=lambda fault: order.index(fault.kind)):
        kind = KINDS[fault.kind]
        clock = rows["ingested_us" if at_ingest else "happened_us"]
        active = (clock >= to_us(fault.start)) & (clock < to_us(fault.end))
        source = fault.source or kind.source
        if source is not None:
            active &= rows["source"] == SOURCES.index(source)
        if kind.at_ingest != at_ingest or not active.any():
            continue
        salt = zlib.crc32(f"{fault.kind} {to_us(fault.start)} {source} {fault.variant}".encode()) << 31
        index = np.flatnonzero(active)
        if fault.kind != "price_shift":
            index = index[luck(rows["id"][index], salt) < fault.power]
        rows = kind.apply(_Hit(fault, rows, index, world, salt)) or rows
    return rows


def schema_columns(columns: dict[str, str], faults: Iterable[Fault], moment_us: int) -> dict[str, str]:
    """Return the columns (name to SQL expression) of event files written at `moment_us` under the faults."""
    for fault in faults:
        if fault.kind != "schema_change" or not to_us(fault.start) <= moment_us < to_us(fault.end):
            continue
        if fault.variant == "added":
            columns = {**columns, "session_id": "substr(event_id, 1, 8)::VARCHAR"}
        elif fault.variant == "removed":
            columns = {name: sql for name, sql in columns.items() if name != "app_version"}
        elif fault.variant == "retyped":
            columns = {**columns, "item_id": "item_id::VARCHAR"}
        else:
            columns = {("rank" if name == "position" else name): sql for name, sql in columns.items()}
    return columns


def _without(hit: _Hit, kind: str = "") -> Rows:
    lost = hit.index[hit.get("kind") == EVENT_TYPES.index(kind)] if kind else hit.index
    return take(hit.rows, np.delete(np.arange(hit.rows["id"].size), lost))


def _narrow_catalogue(hit: _Hit) -> None:
    # The square leans towards the first of the list, as a model fed on its own clicks does.
    hit.set("item", hit.world.top_items[(hit.random() ** 2 * hit.world.top_items.size).astype(np.int64)])


def _fewer_users(hit: _Hit) -> None:
    user, users = hit.get("user"), hit.world.users
    hit.set("user", np.where((user >= 0) & (user < users), user % max(1, users // 50), user))


def _corrupt_values(hit: _Hit) -> None:
    which = (hit.random() * 3).astype(np.int64)
    if hit.fault.variant:
        which[:] = KINDS["corrupt_values"].variants.index(hit.fault.variant)
    value = hit.get("value")
    hit.set("value", np.where(which == 0, np.nan, np.where(which == 1, -value, value)))
    hit.set("event_us", np.where(which == 2, 0, hit.get("event_us")))


def _null_feature(hit: _Hit) -> None:
    if hit.fault.variant == "value":
        hit.set("no_value", True)
    else:
        hit.set("version" if hit.fault.variant == "app_version" else "device", -1)


def _semantic_retry(hit: _Hit) -> Rows:
    again = take(hit.rows, hit.index)
    gap_us = (100_000 + hit.random() * (SEMANTIC_GAP_US - 100_000)).astype(np.int64)
    for clock in ("happened_us", "event_us", "ingested_us"):
        again[clock] = again[clock] + gap_us
    again["id"] = mix(again["id"] + np.uint64(to_us(hit.fault.start)))
    return join([hit.rows, again])


def _retry_storm(hit: _Hit) -> Rows:
    # Skewed like the log-normal, from one uniform draw: median 20 s, one in ten above 75 s.
    chance = np.clip(hit.random(), 1e-9, 1 - 1e-9)
    delay_seconds = np.clip(20 * (chance / (1 - chance)) ** 0.6, 1, LONGEST_RETRY_SECONDS)
    return with_retries(hit.rows, hit.index, delay_seconds)


def _delayed_feed(hit: _Hit) -> None:
    start, end = to_us(hit.fault.start), to_us(hit.fault.end)
    waited = (hit.get("ingested_us") - start) / (end - start)
    hit.set("ingested_us", end + (waited * _BACKLOG_US).astype(np.int64))


def _lose(hit: _Hit) -> None:
    hit.set("outcome", np.where(hit.get("outcome") == LANDED, DROPPED, hit.get("outcome")))


def _rejects(hit: _Hit) -> None:
    hit.set("outcome", REJECTED)
    hit.set("reason", REASONS.index("refused_by_contract"))


# fmt: off
KINDS: dict[str, Kind] = {
    "traffic_drop": Kind(
        _without, (), "Clients send less: the events never happen, and the sends fall too.",
        ("ingestion", "density", "feature_drift"), strength=0.7),
    "lost_clicks": Kind(
        lambda hit: _without(hit, "click"), ("click_through",), "A release sends no clicks.", ("ingestion",), 0.9),
    "missing_users": Kind(
        lambda hit: hit.set("user", -1), ("unknown_ids",),
        "A client release of one source drops the user id.", ("density",), source="ios"),
    "unknown_items": Kind(
        lambda hit: hit.set("item", hit.world.unknown_item + 1_000_000 + (hit.random() * 500).astype(np.int64)),
        ("unknown_ids",), "Events name items that the catalogue does not have.",
        ("popularity", "density"), strength=0.1),
    "hot_item": Kind(lambda hit: hit.set("item", hit.world.hot_item), ("popularity",),
        "One middling item gains a share of all events.", strength=0.1),
    "narrow_catalogue": Kind(
        _narrow_catalogue, ("popularity",), "A feedback loop: only the most popular 1 % of items are shown.",
        ("feedback_loop", "density"), strength=0.8),
    "fewer_users": Kind(_fewer_users, ("density",), "2 % of the users make most traffic.", strength=0.8),
    "new_event_type": Kind(
        lambda hit: hit.set("kind", EVENT_TYPES.index("wishlist_add")), ("contract",),
        "A release sends an event type that the contract does not list.", ("feature_drift",), strength=0.05),
    "device_shift": Kind(
        lambda hit: hit.set("device", DEVICES.index("android_tablet")), ("feature_drift",),
        "A share of the events of every source moves to one known device.", strength=0.3),
    "price_shift": Kind(
        lambda hit: hit.set("value", hit.get("value") * (1 + hit.fault.power)), ("feature_drift",),
        "Every value changes by one factor (a currency or a unit mixed up).", strength=0.5),
    "null_feature": Kind(
        _null_feature, ("feature_drift",), "A feature arrives as null in a share of rows.",
        ("contract",), strength=0.5, variants=("device", "app_version", "value")),
    "corrupt_values": Kind(
        _corrupt_values, ("contract", "ingestion"), "Values turn NaN or negative, event times 1970-01-01.",
        ("feature_drift", "unknown_ids"), strength=0.05, variants=("nan", "negative", "epoch")),
    "future_clock": Kind(
        lambda hit: hit.set("event_us", hit.get("event_us") + _FUTURE_US), ("contract", "ingestion"),
        "Some devices date events two hours ahead; freshness counts them and stays good.", strength=0.02),
    "semantic_retry": Kind(
        _semantic_retry, ("duplicates",),
        "Clients repeat events within 2 s under new event ids; the gateway counts both sends.", strength=0.2),
    "dropped_rows": Kind(_lose, ("ingestion",), "Events neither land nor are rejected.", strength=0.05),
    "rejects": Kind(_rejects, ("ingestion",), "Events go to the reject dataset instead.", strength=0.05),
    "retry_storm": Kind(
        _retry_storm, ("duplicates",), "Events land again, ids and all, 1 s to 5 min later.", strength=0.3),
    "schema_change": Kind(
        lambda hit: None, ("contract",), "Files written then have a column renamed (position to rank), added "
        "(session_id), removed (app_version) or retyped (item_id to text).", ("feature_drift",),
        variants=("renamed", "added", "removed", "retyped"), at_ingest=True),
    "stalled_feed": Kind(
        _lose, ("freshness", "ingestion"), "Nothing lands, sends go on; all of it is lost.", at_ingest=True),
    "delayed_feed": Kind(
        _delayed_feed, ("freshness",), "Nothing lands, sends go on; all of it lands at once afterwards.",
        ("ingestion",), at_ingest=True),
}
# fmt: on
