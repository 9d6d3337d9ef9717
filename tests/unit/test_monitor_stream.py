import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from monitor.faults import KINDS, SOURCES, Dirt, Fault, to_us
from monitor.stream import COLUMNS, STREAMED, LiveWriter, Stream, StreamSettings, write, write_history

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
# Wide enough for 10 seconds of semantic retries to be cut, narrow enough to be drawn in milliseconds.
SETTINGS = StreamSettings(seed=7, events_per_second=100, users=5_000, items=1_000, slice_seconds=2)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def us(seconds: float) -> int:
    return to_us(at(seconds))


def fault(kind: str, start: float, end: float, **more: object) -> Fault:
    return Fault(kind, at(start), at(end), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(SETTINGS)


@pytest.fixture(scope="module")
def trickle() -> Stream:
    return Stream(replace(SETTINGS, events_per_second=20, slice_seconds=10))


def one_of_each(start: float, end: float) -> tuple[Fault, ...]:
    weak = {"stalled_feed": 0.2, "missing_users": 0.5, "traffic_drop": 0.2, "price_shift": 0.5}
    return tuple(fault(kind, start, end, strength=weak.get(kind, 0.1)) for kind in KINDS)


def read(folder: Path, dataset: str) -> pd.DataFrame:
    return duckdb.sql(f"SELECT * FROM read_parquet('{folder}/{dataset}/*.parquet', union_by_name = true)").df()


def same_rows(left: pd.DataFrame, right: pd.DataFrame) -> None:
    key = [name for name in ("event_id", "bucket_start", "ingested_at", "source") if name in left]
    tidy = [
        frame.astype({name: object for name, kind in frame.dtypes.items() if kind in ("category", "str")})
        .astype({"value": "float64"} if "value" in frame else {})
        .sort_values(key)
        .reset_index(drop=True)
        .replace({None: np.nan})
        for frame in (left, right)
    ]
    pd.testing.assert_frame_equal(*tidy, check_dtype=False)


def lost_by_source(stream: Stream, faults: tuple[Fault, ...], seconds: int = 60) -> None:
    batch = stream.events(at(0), at(seconds), faults)
    first = batch.events.drop_duplicates("event_id")
    kept = [Counter(frame.source) for frame in (first, batch.rejected, batch.dropped)]
    sent = batch.sent.groupby("source", observed=True).sent.sum().to_dict()
    assert {source: sum(count[source] for count in kept) for source in sent} == sent
    ids = [set(frame.event_id) for frame in (first, batch.rejected, batch.dropped)]
    assert len(set.union(*ids)) == sum(map(len, ids))


# ---------------------------------------------------------------- the draw


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("events_per_second", 0), ("users", 0), ("items", 19), ("rhythm", 1.1), ("rhythm", -0.1),
     ("slice_seconds", -1), ("sent_bucket_seconds", 0)],
)  # fmt: skip
def test_settings_refuse_what_cannot_be_drawn(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .*got {value}"):
        replace(SETTINGS, **{field: value})


def test_equal_settings_give_equal_streams_and_other_seeds_do_not() -> None:
    one, two = (Stream(SETTINGS).events(at(3), at(20)) for _ in range(2))
    for dataset in (*STREAMED, "dropped"):
        pd.testing.assert_frame_equal(getattr(one, dataset), getattr(two, dataset))
    other = Stream(replace(SETTINGS, seed=8)).events(at(3), at(20))
    assert not set(one.events.event_id) & set(other.events.event_id)
    pd.testing.assert_frame_equal(Stream(SETTINGS).catalogue(), Stream(SETTINGS).catalogue())
    pd.testing.assert_frame_equal(Stream(SETTINGS).users(), Stream(SETTINGS).users())


@pytest.mark.parametrize("faults", [(), one_of_each(11, 47)], ids=["healthy", "faults"])
@pytest.mark.parametrize("cuts", [(0, 30, 60), (0, 0.5, 11, 11.25, 12, 29.999999, 60), tuple(range(61))])
def test_the_stream_does_not_hang_on_how_it_is_cut(
    stream: Stream, cuts: tuple[float, ...], faults: tuple[Fault, ...]
) -> None:
    whole = stream.events(at(0), at(60), faults)
    parts = [stream.events(at(a), at(b), faults) for a, b in pairwise(cuts)]
    for dataset in ("events", "rejected", "dropped"):
        joined = pd.concat([getattr(part, dataset) for part in parts], ignore_index=True)
        pd.testing.assert_frame_equal(joined, getattr(whole, dataset))
    sent = pd.concat([part.sent for part in parts]).groupby(["bucket_start", "source"], observed=True).sent.sum()
    assert sent.to_dict() == whole.sent.set_index(["bucket_start", "source"]).sent.to_dict()


def test_times_of_any_zone_and_of_none_mean_the_same_moment(stream: Stream) -> None:
    naive, zoned = at(5).replace(tzinfo=None), at(5).astimezone(timezone(timedelta(hours=9)))
    expected = stream.events(at(0), at(5)).events
    pd.testing.assert_frame_equal(stream.events(at(0).replace(tzinfo=None), naive).events, expected)
    pd.testing.assert_frame_equal(stream.events(at(0), zoned).events, expected)


def test_a_span_may_be_empty_but_not_backwards_nor_before_the_world(stream: Stream) -> None:
    empty = stream.events(at(3), at(3))
    assert [len(getattr(empty, dataset)) for dataset in (*STREAMED, "dropped")] == [0, 0, 0, 0]
    assert list(empty.events) == list(COLUMNS["events"])
    with pytest.raises(ValueError, match="start must be"):
        stream.events(at(3), at(2))
    with pytest.raises(ValueError, match="start must be from 2025-01-01"):
        stream.events(datetime(2024, 12, 31, tzinfo=UTC), at(2))


def test_events_look_like_those_of_a_shop() -> None:
    stream = Stream(StreamSettings(events_per_second=1_000, rhythm=0))
    events = stream.events(at(0), at(200)).events
    assert len(events) == pytest.approx(200_000, rel=0.01)
    assert events.event_time.between(np.datetime64(us(0), "us"), np.datetime64(us(200), "us")).all()
    assert events.event_time.is_monotonic_increasing
    shares = {
        "event_type": {"view": 0.8, "click": 0.15, "add_to_cart": 0.035, "purchase": 0.015},
        "source": {"ios": 0.45, "android": 0.30, "web": 0.22, "partner": 0.03},
    }
    for column, expected in shares.items():
        seen = events[column].value_counts(normalize=True)
        assert {name: seen[name] for name in expected} == pytest.approx(expected, abs=0.005)
    assert events.position.between(1, 20).all()
    assert events.position.value_counts().idxmax() == 1
    assert (events.value.notna() & (events.value > 0)).all()
    assert events.event_id.str.fullmatch("[0-9a-f]{16}").all()
    delay = (events.ingested_at - events.event_time).dt.total_seconds()
    assert delay.median() == pytest.approx(0.8, abs=0.05)
    assert (delay > 0).all()
    top = events.item_id.value_counts(normalize=True)
    harmonic = (1 / np.arange(1, 5_001)).sum()
    assert top.iloc[0] == pytest.approx(1 / harmonic, rel=0.05)
    assert top.iloc[9] == pytest.approx(0.1 / harmonic, rel=0.15)
    by_user = events.user_id.value_counts()
    assert by_user.head(2_000).sum() > 0.35 * len(events)


def test_natural_dirt_is_there_and_far_below_the_default_limits() -> None:
    stream = Stream(StreamSettings(events_per_second=1_000, rhythm=0))
    batch = stream.events(at(0), at(400))
    events, items = batch.events, stream.catalogue()
    sent = batch.sent.sent.sum()
    assert 0.0005 < (events.user_id.isna() | (events.user_id == "")).mean() < 0.002
    assert events.user_id.isna().any()
    assert (events.user_id == "").any()
    assert 0.0002 < (~events.item_id.isin(items.item_id)).mean() < 0.001
    assert 0.0002 < events.event_id.duplicated().mean() < 0.001
    assert 0 < (len(batch.rejected) + len(batch.dropped)) / sent < 0.0005
    late = (events.ingested_at - events.event_time).dt.total_seconds()[~events.event_id.duplicated()]
    assert 0.008 < (late > 30).mean() < 0.012
    assert (late > 120).mean() < 0.0003, "or a window that has settled would miss its late rows"
    act = ["user_id", "item_id", "event_type"]
    known = events.dropna(subset="user_id").drop_duplicates("event_id").sort_values([*act, "event_time"])
    gap = known.groupby(act, observed=True).event_time.diff()
    assert (gap <= pd.Timedelta("2s")).sum() / len(events) < 0.01


def test_a_world_without_dirt_is_clean() -> None:
    stream = Stream(replace(SETTINGS, dirt=Dirt(0, 0, 0, 0, 0, 0)))
    batch = stream.events(at(0), at(60))
    assert batch.events.event_id.is_unique
    assert len(batch.events) == batch.sent.sent.sum()
    assert batch.events.user_id.notna().all()
    assert batch.events.item_id.isin(stream.catalogue().item_id).all()


def test_tables_hold_every_user_and_item_that_healthy_events_name(stream: Stream) -> None:
    events, items, users = stream.events(at(0), at(60)).events, stream.catalogue(), stream.users()
    named = events.user_id.dropna()
    assert set(named[named != ""]) <= set(users.user_id)
    assert (users.user_id.iloc[0], len(users)) == ("u0000000", 5_000)
    retired = items[items.retired_at.notna()]
    assert len(retired) == 20
    assert not set(events.item_id) & set(retired.item_id)
    world_start = SETTINGS.world_start.replace(tzinfo=None)
    assert (items.created_at < world_start).all()
    assert (users.created_at < world_start).all()
    assert (retired.created_at < retired.retired_at).all()
    assert items.item_id.is_unique


def test_the_rate_has_a_daily_rhythm_around_its_mean(stream: Stream) -> None:
    week = [stream.rate(us(3_600 * hour)) for hour in range(168)]
    assert np.mean(week) == pytest.approx(100, rel=0.001)
    assert max(week) > 2 * min(week) > 0
    flat = Stream(replace(SETTINGS, rhythm=0))
    assert {flat.rate(us(3_600 * hour)) for hour in range(24)} == {100.0}
    busy, quiet = (len(stream.events(at(3_600 * h), at(3_600 * h + 60)).events) for h in (7, 17))
    assert busy > 1.5 * quiet


@pytest.mark.parametrize(("rate", "seconds"), [(1, 60), (1_000, 30), (10_000, 5), (200_000, 1)])
def test_the_slice_follows_the_rate(rate: float, seconds: int) -> None:
    assert StreamSettings(events_per_second=rate).slice_us == seconds * 1_000_000


# ---------------------------------------------------------------- reconciliation


@pytest.mark.parametrize("kind", KINDS)
def test_sent_is_landed_and_rejected_and_dropped(stream: Stream, kind: str) -> None:
    lost_by_source(stream, (fault(kind, 10, 40),))


def test_sent_adds_up_under_all_faults_at_once(stream: Stream) -> None:
    lost_by_source(stream, one_of_each(10, 40), 120)


def test_sent_adds_up_in_every_bucket(stream: Stream) -> None:
    batch = stream.events(at(0), at(60), (fault("dropped_rows", 10, 20), fault("retry_storm", 0, 60)))
    first = batch.events.drop_duplicates("event_id")
    kept = pd.concat([frame[["event_time", "source"]] for frame in (first, batch.rejected, batch.dropped)])
    buckets = Counter(zip(kept.event_time.dt.floor("s"), kept.source, strict=True))
    assert buckets == {(row.bucket_start, row.source): row.sent for row in batch.sent.itertuples()}


def test_the_gateway_counts_in_the_buckets_it_is_told() -> None:
    stream = Stream(replace(SETTINGS, sent_bucket_seconds=60))
    sent = stream.events(at(0), at(180)).sent
    assert sorted(set(sent.bucket_start)) == [pd.Timestamp(us(60 * n), unit="us") for n in range(3)]
    assert not sent.duplicated(["bucket_start", "source"]).any()


# ---------------------------------------------------------------- faults


def share(events: pd.DataFrame, **equal: object) -> float:
    return float(np.mean([(events[name] == value).mean() for name, value in equal.items()]))


def delay_seconds(events: pd.DataFrame) -> pd.Series:
    return (events.ingested_at - events.event_time).dt.total_seconds()


# What each fault changes: a figure over the events of a span, and its least value under the fault at the default
# strength. Without the fault the figure is below a third of it.
FIGURES = {
    "missing_users": (lambda e: e.user_id.isna()[e.source == "ios"].mean(), 1.0),
    "unknown_items": (lambda e: (e.item_id >= 1_100_000).mean(), 0.08),
    "hot_item": (lambda e: e.item_id.value_counts(normalize=True).iloc[1] - 0.07, 0.02),
    "new_event_type": (partial(share, event_type="wishlist_add"), 0.04),
    "device_shift": (partial(share, device="android_tablet"), 0.25),
    "null_feature": (lambda e: e.device.isna().mean(), 0.45),
    "corrupt_values": (lambda e: ((e.value < 0) | np.isnan(e.value.to_numpy(float))).mean(), 0.02),
    "future_clock": (lambda e: (delay_seconds(e) < -7_000).mean(), 0.012),
    "retry_storm": (lambda e: e.event_id.duplicated().mean(), 0.2),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_a_fault_changes_what_it_says_and_only_while_active(stream: Stream, kind: str) -> None:
    faults = (fault(kind, 20, 40),)
    figure, least = FIGURES[kind]
    inside, before, after = (stream.events(at(a), at(b), faults).events for a, b in ((20, 40), (0, 20), (40, 60)))
    assert figure(inside) >= least
    assert figure(before) < least / 3
    assert figure(after) < least / 3


@pytest.mark.parametrize("kind", KINDS)
def test_rows_out_of_reach_are_the_same_with_and_without_a_fault(stream: Stream, kind: str) -> None:
    healthy, faulty = (
        stream.events(at(0), at(60), faults).events for faults in ((), (fault(kind, 20, 40, source="web"),))
    )
    clock = healthy.ingested_at if KINDS[kind].at_ingest else healthy.event_time
    active = clock.between(*(pd.Timestamp(us(t), unit="us") for t in (20, 39.999999)))
    spared = healthy[~active | (healthy.source != "web")]
    rest = faulty[(faulty.source != "web") | faulty.event_id.isin(spared.event_id)]
    found = spared.merge(rest, on=list(spared), how="left", indicator=True)
    assert (found._merge == "both").all()
    assert (faulty.source != "web").sum() == (healthy.source != "web").sum()


def test_every_kind_says_what_happens_and_who_should_see_it() -> None:
    checks = {"freshness", "ingestion", "unknown_ids", "duplicates", "density", "contract", "feature_drift",
              "popularity", "feedback_loop", "click_through"}  # fmt: skip
    for name, kind in KINDS.items():
        assert kind.effect.endswith("."), name
        assert set(kind.seen_by + kind.may_follow) <= checks, name
        assert not set(kind.seen_by) & set(kind.may_follow), name


def test_a_fault_of_one_source_spares_the_others(stream: Stream) -> None:
    events = stream.events(at(0), at(60), (fault("null_feature", 0, 60, source="android", strength=1.0),)).events
    nulls = events.device.isna().groupby(events.source, observed=True).mean()
    assert nulls.to_dict() == {"ios": 0.0, "android": 1.0, "web": 0.0, "partner": 0.0}


@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS if kind != "delayed_feed"), tuple(KINDS)[:-3]])
def test_ending_a_fault_early_does_not_change_what_it_did(stream: Stream, kinds: tuple[str, ...]) -> None:
    seen = []
    # The earlier end lies within a slice, so that there the draws for what comes after it fall away.
    for end in (60, 15):
        faults = tuple(fault(kind, 5, end, strength=None if len(kinds) == 1 else 0.2) for kind in kinds)
        events = stream.events(at(0), at(15), faults).events
        if any(KINDS[kind].at_ingest for kind in kinds):
            events = events[events.ingested_at < pd.Timestamp(us(15), unit="us")]
        seen.append(events.reset_index(drop=True))
    pd.testing.assert_frame_equal(*seen)


@pytest.mark.parametrize("source", [None, "web"])
def test_a_stalled_feed_lands_nothing_while_sends_go_on(stream: Stream, source: str | None) -> None:
    healthy = stream.events(at(0), at(400))
    batch = stream.events(at(0), at(400), (fault("stalled_feed", 100, 300, source=source),))
    span = batch.events.ingested_at.between(*(pd.Timestamp(us(t), unit="us") for t in (100, 299.999999)))
    assert set(batch.events[span].source) == (set(SOURCES) - {source} if source else set())
    pd.testing.assert_frame_equal(batch.sent, healthy.sent)
    assert len(batch.dropped) > 1_000


def test_a_delayed_feed_lands_all_of_it_afterwards(stream: Stream) -> None:
    healthy = stream.events(at(0), at(200)).events
    late = stream.events(at(0), at(200), (fault("delayed_feed", 50, 150),)).events
    assert not late.ingested_at.between(*(pd.Timestamp(us(t), unit="us") for t in (50, 149.999999))).any()
    assert sorted(late.event_id) == sorted(healthy.event_id)
    held = late.ingested_at.between(*(pd.Timestamp(us(t), unit="us") for t in (150, 155)))
    assert held.sum() > 9_000


@pytest.mark.parametrize(("kind", "fate"), [("dropped_rows", "dropped"), ("rejects", "rejected")])
def test_lost_rows_go_where_they_should(stream: Stream, kind: str, fate: str) -> None:
    batch = stream.events(at(0), at(60), (fault(kind, 20, 40, strength=0.5),))
    hit = getattr(batch, fate).event_time
    inside = hit.between(*(pd.Timestamp(us(t), unit="us") for t in (20, 40)))
    sent = stream.events(at(20), at(40)).sent.sent.sum()
    assert inside.sum() == pytest.approx(sent / 2, rel=0.1)
    assert (~inside).sum() < 10


def test_retry_storm_copies_events_exactly(stream: Stream) -> None:
    events = stream.events(at(0), at(60), (fault("retry_storm", 0, 60),)).events
    pairs = events[events.event_id.duplicated(keep=False)].drop(columns="ingested_at")
    assert len(pairs.drop_duplicates()) == pairs.event_id.nunique()
    gap = events.groupby("event_id").ingested_at.agg(lambda t: t.max() - t.min()).dt.total_seconds()
    gap = gap[gap > 0]
    assert 1 <= gap.min() <= gap.max() <= 601
    assert gap.median() == pytest.approx(20, rel=0.3)


def test_semantic_retry_repeats_the_act_under_a_new_id_and_counts_as_sent(stream: Stream) -> None:
    healthy = stream.events(at(0), at(60))
    batch = stream.events(at(0), at(60), (fault("semantic_retry", 20, 40),))
    new = batch.events[~batch.events.event_id.isin(healthy.events.event_id)]
    same = ["user_id", "item_id", "event_type", "source", "value", "device"]
    pairs = new.merge(healthy.events, on=same, suffixes=("", "_of"))
    gap = (pairs.event_time - pairs.event_time_of).dt.total_seconds()
    assert gap.between(0.1, 2).sum() >= len(new.dropna(subset="user_id")) * 0.98
    assert new.event_time.between(*(pd.Timestamp(us(t), unit="us") for t in (20, 42))).all()
    more = batch.sent.sent.sum() - healthy.sent.sent.sum()
    assert more == pytest.approx(0.2 * stream.events(at(20), at(40)).sent.sent.sum(), rel=0.15)


def test_faults_of_the_shop(stream: Stream) -> None:
    def events(kind: str, **more: object) -> pd.DataFrame:
        return stream.events(at(0), at(60), (fault(kind, 0, 60, **more),)).events

    healthy = stream.events(at(0), at(60))
    assert events("price_shift").value.median() == pytest.approx(1.5 * healthy.events.value.median())
    assert events("price_shift", strength=-0.2).value.median() == pytest.approx(0.8 * healthy.events.value.median())
    assert events("fewer_users").user_id.nunique() < 0.6 * healthy.events.user_id.nunique()
    top_items = events("narrow_catalogue").item_id.value_counts(normalize=True)
    assert top_items.head(10).sum() > 0.8 > healthy.events.item_id.value_counts(normalize=True).head(10).sum() + 0.3
    quiet = stream.events(at(0), at(60), (fault("traffic_drop", 0, 60),))
    assert quiet.sent.sent.sum() == pytest.approx(0.3 * healthy.sent.sent.sum(), rel=0.1)


def test_fewer_users_leaves_missing_users_missing() -> None:
    dirty = Stream(replace(SETTINGS, dirt=Dirt(missing_user_ratio=0.2)))
    healthy, faulty = (dirty.events(at(0), at(10), f).events.user_id for f in ((), (fault("fewer_users", 0, 10),)))
    for missing in (pd.isna, lambda names: names == ""):
        assert missing(healthy).sum() > 50
        pd.testing.assert_series_equal(missing(healthy), missing(faulty))


def test_variants_choose_what_breaks(stream: Stream) -> None:
    def events(kind: str, variant: str) -> pd.DataFrame:
        return stream.events(at(0), at(20), (fault(kind, 0, 20, strength=1.0, variant=variant),)).events

    assert events("null_feature", "value").value.isna().all()
    assert events("null_feature", "app_version").app_version.isna().all()
    assert (events("corrupt_values", "negative").value < 0).all()
    assert np.isnan(events("corrupt_values", "nan").value.to_numpy(float)).all()
    assert events("corrupt_values", "nan").value.notna().all()
    assert (events("corrupt_values", "epoch").event_time == pd.Timestamp(0)).all()


@pytest.mark.parametrize(
    ("more", "message"),
    [({"kind": "gremlins"}, "kind must be one of .*got gremlins"), ({"end": START}, "end must be after"),
     ({"strength": 1.5}, "at most 1.0, got 1.5"), ({"strength": 0}, "above 0.0"), ({"source": "tv"}, "ios, android"),
     ({"variant": "odd"}, "got odd"), ({"kind": "price_shift", "strength": -1.0}, "above -1.0")],
)  # fmt: skip
def test_a_fault_that_could_not_be_applied_is_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**{"kind": "rejects", "start": START, "end": at(60), **more})  # type: ignore[arg-type]


# ---------------------------------------------------------------- files


def test_a_live_writer_writes_each_row_once_when_it_is_visible(trickle: Stream, tmp_path: Path) -> None:
    faults = (fault("retry_storm", 10, 40), fault("rejects", 10, 40), fault("semantic_retry", 10, 40))
    writer = LiveWriter(trickle, tmp_path, at(0), faults=faults)
    total: Counter[str] = Counter()
    for now in [0, 0.3, 1, 1, 2.5, *range(5, 60, 5), 60, 200, 900]:
        seen = {dataset: set((tmp_path / dataset).glob("*.parquet")) for dataset in STREAMED}
        written = writer.advance(at(now))
        total.update(written)
        for dataset in STREAMED:
            new = set((tmp_path / dataset).glob("*.parquet")) - seen[dataset]
            assert len(new) == (written[dataset] > 0)
        if written["events"]:
            assert read(tmp_path, "events").ingested_at.max() <= at(now).replace(tzinfo=None)
    batch = trickle.events(at(0), at(900), faults)
    now = at(900).replace(tzinfo=None)
    same_rows(read(tmp_path, "events"), batch.events[batch.events.ingested_at <= now])
    same_rows(read(tmp_path, "rejected"), batch.rejected[batch.rejected.ingested_at <= now])
    same_rows(read(tmp_path, "sent"), batch.sent)
    assert total == {dataset: len(read(tmp_path, dataset)) for dataset in STREAMED}
    names = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert names == []


def test_a_bucket_of_sends_is_written_once_and_only_when_it_is_over(tmp_path: Path) -> None:
    stream = Stream(replace(SETTINGS, sent_bucket_seconds=10))
    writer = LiveWriter(stream, tmp_path, at(0))
    counts = [writer.advance(at(now))["sent"] for now in (3, 9.9, 10, 12.5, 27, 30)]
    assert [count > 0 for count in counts] == [False, False, True, False, True, True]
    same_rows(read(tmp_path, "sent"), stream.events(at(0), at(30)).sent)


def test_a_long_bucket_survives_a_restart(tmp_path: Path) -> None:
    stream = Stream(replace(SETTINGS, events_per_second=1, sent_bucket_seconds=1_800))
    LiveWriter(stream, tmp_path, at(0)).advance(at(1_700))
    LiveWriter(stream, tmp_path, at(1_700), since=at(0)).advance(at(1_800))
    same_rows(read(tmp_path, "sent"), stream.events(at(0), at(1_800)).sent)


def test_quiet_calls_write_nothing(tmp_path: Path) -> None:
    writer = LiveWriter(Stream(replace(SETTINGS, events_per_second=0.001)), tmp_path, at(0))
    assert writer.advance(at(1)) == {"events": 0, "sent": 0, "rejected": 0}
    assert writer.advance(at(1)) == {"events": 0, "sent": 0, "rejected": 0}
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == ["items.parquet", "users.parquet"]
    with pytest.raises(ValueError, match="now must be at least"):
        writer.advance(at(0))


@pytest.mark.parametrize("restart", [False, True], ids=["same writer", "new writer"])
def test_live_goes_on_where_history_ended(stream: Stream, tmp_path: Path, restart: bool) -> None:
    reached: list[tuple[datetime, int]] = []
    writer = write_history(stream, tmp_path, (at(0), at(120.5)), 2_000, lambda *step: reached.append(step))
    assert reached[-1] == (at(120.5), len(read(tmp_path, "events")))
    assert len(reached) > 3
    sizes = duckdb.sql(f"SELECT num_rows FROM parquet_file_metadata('{tmp_path}/events/*.parquet')").fetchall()
    assert max(size for (size,) in sizes) < 2_500
    if restart:
        writer = LiveWriter(stream, tmp_path, at(120.5), since=at(0))
    writer.advance(at(125))
    writer.advance(at(180))
    now = at(180).replace(tzinfo=None)
    batch = stream.events(at(0), at(180))
    same_rows(read(tmp_path, "events"), batch.events[batch.events.ingested_at <= now])
    same_rows(read(tmp_path, "sent"), batch.sent)


@pytest.mark.parametrize("kind", KINDS.keys() - {"schema_change"})
def test_faults_may_be_switched_on_and_ended_while_live(trickle: Stream, tmp_path: Path, kind: str) -> None:
    writer = LiveWriter(trickle, tmp_path, at(0))
    writer.advance(at(20))
    storm = fault(kind, 20, 10_000)
    writer.change_faults((storm,))
    for now in (21, 22, 27, 33.5, 39):
        writer.advance(at(now))
    ended = replace(storm, end=at(39))
    writer.change_faults((ended,))
    writer.advance(at(60))
    writer.advance(at(700))
    now = at(700).replace(tzinfo=None)
    batch = trickle.events(at(0), at(700), (ended,))
    same_rows(read(tmp_path, "events"), batch.events[batch.events.ingested_at <= now])
    same_rows(read(tmp_path, "sent"), batch.sent)


def test_a_long_delay_survives_a_change_and_a_restart(trickle: Stream, tmp_path: Path) -> None:
    held = (fault("delayed_feed", 100, 2_000),)
    writer = LiveWriter(trickle, tmp_path, at(0), faults=held)
    writer.advance(at(1_000))
    writer.change_faults((*held, fault("rejects", 1_500, 1_600)))
    writer.advance(at(1_900))
    writer = LiveWriter(trickle, tmp_path, at(1_900), at(0), writer.faults)
    writer.advance(at(2_100))
    now = at(2_100).replace(tzinfo=None)
    batch = trickle.events(at(0), at(2_100), writer.faults)
    same_rows(read(tmp_path, "events"), batch.events[batch.events.ingested_at <= now])
    same_rows(read(tmp_path, "sent"), batch.sent)


def columns_by_file(folder: Path) -> list[dict[str, str]]:
    described = []
    for path in sorted(folder.glob("events/*.parquet")):
        rows = duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()
        described.append({row[0]: row[1] for row in rows})
    return described


TYPES = dict.fromkeys(("event_id", "user_id", "event_type", "source", "device", "app_version"), "VARCHAR") | {
    "item_id": "BIGINT", "event_time": "TIMESTAMP", "ingested_at": "TIMESTAMP", "value": "DOUBLE",
    "position": "INTEGER",
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("renamed", {name: kind for name, kind in TYPES.items() if name != "position"} | {"rank": "INTEGER"}),
        ("added", TYPES | {"session_id": "VARCHAR"}),
        ("removed", {name: kind for name, kind in TYPES.items() if name != "app_version"}),
        ("retyped", TYPES | {"item_id": "VARCHAR"}),
        ("", {name: kind for name, kind in TYPES.items() if name != "position"} | {"rank": "INTEGER"}),
    ],
)
def test_a_schema_change_acts_on_the_files_written_during_it(
    stream: Stream, tmp_path: Path, variant: str, changed: dict[str, str]
) -> None:
    writer = LiveWriter(stream, tmp_path, at(0), faults=(fault("schema_change", 20, 30.5, variant=variant),))
    writer.advance(at(10))
    writer.advance(at(60))
    files = columns_by_file(tmp_path)
    assert [set(file.items()) for file in files] == [set(kinds.items()) for kinds in (TYPES, TYPES, changed, TYPES)]
    spans = duckdb.sql(
        f"SELECT min(ingested_at), max(ingested_at) FROM read_parquet('{tmp_path}/events/*.parquet', "
        "union_by_name = true, filename = true) GROUP BY filename ORDER BY filename"
    ).fetchall()
    first, last = spans[2]
    assert at(20).replace(tzinfo=None) <= first <= last < at(30.5).replace(tzinfo=None)
    assert len(read(tmp_path, "events")) == (stream.events(at(0), at(60)).events.ingested_at <= spans[3][1]).sum()


def test_types_hold_where_a_whole_file_is_null(stream: Stream, tmp_path: Path) -> None:
    faults = tuple(fault(kind, 0, 60, strength=1.0, source=s, variant=variant) for s in SOURCES for kind, variant in
                   (("missing_users", ""), ("null_feature", "device"), ("null_feature", "value")))  # fmt: skip
    LiveWriter(stream, tmp_path, at(0), faults=faults).advance(at(10))
    assert columns_by_file(tmp_path) == [TYPES]
    events = read(tmp_path, "events")
    assert events[["user_id", "device", "value"]].isna().all(axis=None)


def test_nan_is_written_as_nan_and_null_as_null(stream: Stream, tmp_path: Path) -> None:
    faults = (
        fault("corrupt_values", 0, 10, strength=0.2, variant="nan"),
        fault("null_feature", 0, 10, strength=0.2, variant="value"),
    )
    write(stream.events(at(0), at(10), faults), tmp_path, "it's odd")
    query = f"SELECT count(*), count(value), count(*) FILTER (isnan(value)) FROM '{tmp_path}/events/*.parquet'"
    (found,) = duckdb.sql(query).fetchall()
    value = stream.events(at(0), at(10), faults).events.value
    bad = np.isnan(value.to_numpy(dtype=float, na_value=0.0)).sum()
    assert found == (len(value), value.notna().sum(), bad)
    assert bad > 0


def test_a_batch_is_written_whole(stream: Stream, tmp_path: Path) -> None:
    batch = stream.events(at(0), at(60), (fault("rejects", 0, 60),))
    write(batch, tmp_path, "part")
    for dataset in STREAMED:
        same_rows(read(tmp_path, dataset), getattr(batch, dataset))


def test_the_tables_are_files_too(stream: Stream, tmp_path: Path) -> None:
    LiveWriter(stream, tmp_path, at(0))
    items = duckdb.sql(f"SELECT count(*), count(retired_at), min(item_id) FROM '{tmp_path}/items.parquet'").fetchall()
    assert items == [(1_000, 20, 100_000)]
    described = duckdb.sql(f"DESCRIBE SELECT * FROM '{tmp_path}/users.parquet'").fetchall()
    assert [row[:2] for row in described] == [
        ("user_id", "VARCHAR"), ("country", "VARCHAR"), ("created_at", "TIMESTAMP")
    ]  # fmt: skip


def test_files_are_the_same_where_pyarrow_is_missing(stream: Stream, tmp_path: Path) -> None:
    faults = "(Fault('null_feature', s, e, 0.3), Fault('missing_users', s, e), Fault('corrupt_values', s, e, 0.3))"
    program = f"""
import sys
sys.modules["pyarrow"] = None
from datetime import datetime
from monitor.faults import Fault
from monitor.stream import LiveWriter, Stream, StreamSettings
s, e = datetime(2026, 3, 3, 12), datetime(2026, 3, 3, 12, 0, 20)
settings = StreamSettings(seed=7, events_per_second=100, users=5_000, items=1_000, slice_seconds=2)
writer = LiveWriter(Stream(settings), sys.argv[1], s, faults={faults})
writer.advance(datetime(2026, 3, 3, 12, 0, 7))
writer.advance(e)
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path], check=True, cwd=root)
    kinds = (("null_feature", 0.3), ("missing_users", None), ("corrupt_values", 0.3))
    batch = stream.events(at(0), at(20), tuple(fault(kind, 0, 20, strength=s) for kind, s in kinds))
    same_rows(read(tmp_path, "events"), batch.events[batch.events.ingested_at <= at(20).replace(tzinfo=None)])
    assert columns_by_file(tmp_path) == [TYPES, TYPES]
