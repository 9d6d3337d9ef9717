"""What a scrape returns: the state, exactly, within its budget, and never a healthy-looking nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Sample as Exposed

from checks.check import Outcome, Sample, Verdict
from checks.measure import Tally
from checks.metrics import BY_NAME
from checks.window import Window
from monitor.clock import SystemClock
from monitor.config import Config
from monitor.errors import ConfigError, StateError
from monitor.exposition import Exposition, registry
from monitor.exposition_plan import Plan
from monitor.records import Judged, series_name
from monitor.resolve import build
from monitor.runner import Disabled, run_samples
from monitor.series import kept, label_value, series_estimate
from monitor.status import Watched
from monitor.store import Store

NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ROLES = {"event_time": "at", "user": "user_id", "item": "item_id", "source": "app", "value": "price"}


def configured(**limits: int) -> Config:
    events = {"files": "events.csv", "roles": ROLES, "features": ["price"], "most_sources": 3}
    return Config.model_validate({"pipeline": "shop", "datasets": {"events": events}, "limits": limits})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/state.db", "shop")
    yield store
    store.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    pipeline = build(configured())
    yield Watched(pipeline.config, pipeline.checks, {}, NOON)
    pipeline.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler, logger = Keep(), logging.getLogger("recwatch")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def judged(check: str, outcome: Outcome = Outcome.GOOD, number: int = 0, **more: Any) -> Judged:
    window = Window(NOON + number * MINUTE, NOON + (number + 1) * MINUTE)
    verdict = Verdict(check, "events", window, outcome, "lag_seconds", 12.5, 300.0, reason="so it is")
    verdicts = more.pop("verdicts", (verdict,))
    tally = None if outcome is Outcome.ERROR else Tally("events", window)
    increments = (*more.pop("increments", ()), *run_samples(check, "events", verdicts))
    finished = window.end + timedelta(seconds=30)
    return Judged(check, "events", window, verdicts, finished, 0.25, tally, increments, **more)


def scrape(store: Store, watched: Watched) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return what Prometheus would hold: values by metric and labels, without the pipeline."""
    text = generate_latest(registry(Exposition(store, lambda: watched, SystemClock()))).decode()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parse(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            if sample.name.startswith("recwatch_"):
                assert labels.pop("pipeline") == "shop"
            key = tuple(sorted(labels.items()))
            assert key not in found.setdefault(sample.name, {}), f"{sample.name} {key} twice"
            found[sample.name][key] = sample.value
    return found


def of(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


FRESH = {"dataset": "events", "check": "freshness"}


def test_counters_are_exposed_as_stored_and_without_a_time_of_creation(store: Store, watched: Watched) -> None:
    labels = {"dataset": "events", "result": "valid"}
    for number, rows in enumerate((100, 7, 5)):
        store.commit(
            judged("contract", number=number, increments=[Sample("recwatch_contract_rows_total", labels, rows)])
        )
    found = scrape(store, watched)
    assert found["recwatch_contract_rows_total"] == {of(**labels): 112}
    assert not [name for name in found if name.startswith("recwatch_") and name.endswith("_created")]


def test_a_run_leaves_moments_not_ages(store: Store, watched: Watched) -> None:
    store.commit(judged("freshness"))
    store.commit(judged("freshness", Outcome.ERROR, number=5, advances=False))
    found = scrape(store, watched)
    assert found["recwatch_check_last_run_timestamp_seconds"] == {
        of(**FRESH): (NOON + timedelta(minutes=6.5)).timestamp()
    }
    assert found["recwatch_check_last_success_timestamp_seconds"] == {
        of(**FRESH): (NOON + timedelta(minutes=1.5)).timestamp()
    }
    assert found["recwatch_check_watermark_timestamp_seconds"] == {of(**FRESH): (NOON + MINUTE).timestamp()}
    assert found["recwatch_check_duration_seconds"] == {of(**FRESH): 0.25}
    assert found["recwatch_check_interval_seconds"][of(**FRESH)] == 30
    assert not [name for name in found if "age" in name.split("_")]


def test_a_check_that_never_succeeded_has_no_moment_of_success(store: Store, watched: Watched) -> None:
    store.commit(judged("freshness", Outcome.ERROR, advances=False))
    found = scrape(store, watched)
    assert "recwatch_check_last_success_timestamp_seconds" not in found
    assert "recwatch_check_watermark_timestamp_seconds" not in found


@pytest.mark.parametrize(
    ("outcome", "said"), [(Outcome.GOOD, 1), (Outcome.BAD, 0), (Outcome.UNKNOWN, None), (Outcome.ERROR, None)]
)
def test_good_is_absent_while_nobody_knows(store: Store, watched: Watched, outcome: Outcome, said: int | None) -> None:
    store.commit(judged("freshness", Outcome.GOOD))
    store.commit(judged("freshness", outcome, number=1))
    found = scrape(store, watched)
    assert found.get("recwatch_check_good", {}).get(of(**FRESH)) == said


def test_value_and_limit_stand_beside_the_verdict_of_each_part_but_not_of_sources(
    store: Store, watched: Watched
) -> None:
    window = Window(NOON, NOON + MINUTE)
    verdicts = [
        Verdict("unknown_ids", "events", window, outcome, "unknown_ratio", value, 0.01, entity=entity, source=source)
        for outcome, value, entity, source in (
            (Outcome.BAD, 0.3, "user", None),
            (Outcome.GOOD, 0.002, "item", None),
            (Outcome.BAD, 0.9, "user", "ios"),
        )
    ]
    store.commit(judged("unknown_ids", verdicts=verdicts))
    found = scrape(store, watched)
    named = {"dataset": "events", "check": "unknown_ids", "measure": "unknown_ratio"}
    assert found["recwatch_check_value"] == {of(**named, entity="user"): 0.3, of(**named, entity="item"): 0.002}
    assert set(found["recwatch_check_limit"].values()) == {0.01}
    assert sorted(found["recwatch_check_good"].values()) == [0, 1]


def test_runs_are_counted_from_zero_before_the_first(store: Store, watched: Watched) -> None:
    runs = scrape(store, watched)["recwatch_check_runs_total"]
    assert len(runs) == 8 * 4
    assert set(runs.values()) == {0}
    for number in range(3):
        store.commit(judged("freshness", number=number))
    runs = scrape(store, watched)["recwatch_check_runs_total"]
    assert len(runs) == 8 * 4
    assert {labels: n for labels, n in runs.items() if n} == {of(**FRESH, outcome="good"): 3}


def test_a_source_that_is_too_rare_does_not_make_the_run_unknown(store: Store, watched: Watched) -> None:
    window = Window(NOON, NOON + MINUTE)
    verdicts = [
        Verdict("freshness", "events", window, Outcome.GOOD, "lag_seconds", 3.0, 300.0),
        Verdict("freshness", "events", window, Outcome.UNKNOWN, "lag_seconds", 900.0, 300.0, source="rare"),
    ]
    for _ in range(2):
        store.commit(judged("freshness", verdicts=verdicts))
    store.commit(judged("freshness", number=1))
    runs = scrape(store, watched)["recwatch_check_runs_total"]
    assert runs[of(**FRESH, outcome="good")] == 2
    assert runs[of(**FRESH, outcome="unknown")] == 0


def test_what_left_the_configuration_leaves_the_page(store: Store, watched: Watched) -> None:
    gauge = Sample("recwatch_newest_event_timestamp_seconds", {"dataset": "events", "source": "(all)"}, 1e9)
    store.commit(judged("freshness", gauges=[gauge]))
    assert "recwatch_newest_event_timestamp_seconds" in scrape(store, watched)
    gone = Disabled("freshness", "events", "needs the role event_time")
    disabled = scrape(store, replace(watched, disabled={("events", "freshness"): gone}))
    assert "recwatch_newest_event_timestamp_seconds" not in disabled
    assert disabled["recwatch_check_enabled"][of(**FRESH)] == 0
    assert of(**FRESH) not in disabled["recwatch_check_interval_seconds"]
    other = watched.config.model_copy(update={"datasets": {"other": watched.config.datasets["events"]}})
    elsewhere = scrape(store, replace(watched, config=other, checks={"other": watched.checks["events"]}))
    assert {dict(labels)["dataset"] for labels in elsewhere["recwatch_check_enabled"]} == {"other"}
    assert "recwatch_newest_event_timestamp_seconds" not in elsewhere


def test_a_refused_configuration_is_told(store: Store, watched: Watched) -> None:
    assert scrape(store, watched)["recwatch_config_last_reload_successful"] == {(): 1}
    found = scrape(store, replace(watched, read_problem="unknown key"))
    assert found["recwatch_config_last_reload_successful"] == {(): 0}
    assert found["recwatch_config_last_reload_success_timestamp_seconds"] == {(): NOON.timestamp()}


@pytest.mark.parametrize("source", ['a "quoted" one', "back\\slash", "two\nlines", "naïve ☃", "<b>", 'x" 1\nother{a="'])
def test_any_label_survives_both_formats(store: Store, watched: Watched, source: str) -> None:
    gauge = Sample("recwatch_newest_event_timestamp_seconds", {"dataset": "events", "source": source}, 1e9)
    store.commit(judged("freshness", gauges=[gauge]))
    assert scrape(store, watched)[gauge.metric] == {of(dataset="events", source=source): 1e9}
    text = openmetrics.generate_latest(registry(Exposition(store, lambda: watched, SystemClock()))).decode()
    values = {
        sample.labels["source"]
        for family in parse_openmetrics(text)
        for sample in family.samples
        if "source" in sample.labels
    }
    assert values == {source}


def test_long_labels_are_cut_and_stay_apart(store: Store, watched: Watched) -> None:
    gauges = [
        Sample("recwatch_newest_event_timestamp_seconds", {"dataset": "events", "source": "s" * 300 + end}, 1e9)
        for end in ("a", "b")
    ]
    store.commit(judged("freshness", gauges=gauges))
    sources = [dict(labels)["source"] for labels in scrape(store, watched)[gauges[0].metric]]
    assert len(set(sources)) == 2
    assert {len(source) for source in sources} == {128}


def test_a_label_that_can_not_be_encoded_does_not_spoil_the_scrape() -> None:
    assert label_value("half \ud800 a pair").encode("utf-8") == b"half ? a pair"


# -- budget --------------------------------------------------------------------------------------


def crowd(store: Store, series: int) -> None:
    labels = [{"dataset": "events", "feature": f"f{n:04}", "method": "psi"} for n in range(series)]
    store.commit(judged("feature_drift", gauges=[Sample("recwatch_drift_score", named, 0.1) for named in labels]))
    store.commit(judged("freshness"))


def test_above_the_budget_the_largest_metric_is_cut_the_same_way_each_time(
    store: Store, watched: Watched, logged: list[str]
) -> None:
    crowd(store, 300)
    whole = scrape(store, watched)
    exposition = Exposition(store, lambda: replace(watched, config=configured(max_series=150)), SystemClock())

    def cut() -> list[Exposed]:
        return [sample for family in exposition.collect() for sample in family.samples]

    first, second = cut(), cut()
    assert len(first) == 150
    values = {sample.name: sample.value for sample in first}
    everything = sum(len(found) for name, found in whole.items() if name.startswith("recwatch_"))
    assert values["recwatch_series"] == 150
    assert values["recwatch_series_dropped_total"] == everything - 150
    assert {sample.name: sample.value for sample in second}["recwatch_series_dropped_total"] == 2 * (everything - 150)
    scores = [sample.labels["feature"] for sample in first if sample.name == "recwatch_drift_score"]
    assert scores == [f"f{n:04}" for n in range(len(scores))]
    assert scores == [sample.labels["feature"] for sample in second if sample.name == "recwatch_drift_score"]
    for name, found in whole.items():
        if name.startswith("recwatch_") and name != "recwatch_drift_score":
            assert len([sample for sample in first if sample.name == name]) == len(found), name
    assert [line for line in logged if line.startswith("series_dropped")] == [
        f'series_dropped dropped={everything - 150} hint="raise limits.max_series"'
    ]


def test_within_the_budget_nothing_is_dropped(store: Store, watched: Watched) -> None:
    crowd(store, 300)
    found = scrape(store, watched)
    assert len(found["recwatch_drift_score"]) == 300
    assert found["recwatch_series_dropped_total"] == {(): 0}
    assert found["recwatch_series"] == {(): sum(len(of) for name, of in found.items() if name.startswith("recwatch_"))}


def values_of(sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    return {name: {f"{name}{n}": n for n in range(size)} for name, size in sizes.items()}


@given(some.dictionaries(some.text(min_size=1, max_size=3), some.integers(1, 40), max_size=8), some.integers(0, 120))
def test_the_budget_is_shared_fairly(sizes: dict[str, int], budget: int) -> None:
    fitting, dropped = kept(values_of(sizes), budget)
    left = {name: len(found) for name, found in fitting.items()}
    assert sum(left.values()) + dropped == sum(sizes.values())
    assert sum(left.values()) <= budget
    if sum(sizes.values()) <= budget:
        assert dropped == 0
    cut = [left[name] for name in sizes if left[name] < sizes[name]]
    assert len(set(cut)) <= 1, "all that are cut are cut to the same size"
    assert all(n <= cut[0] for n in left.values()) if cut else True
    assert budget - sum(left.values()) < len(cut) if cut else True, "nothing is left over that could be given"


def test_the_estimate_follows_the_configuration() -> None:
    def estimate(**changes: Any) -> int:
        base = configured()
        config = base.model_copy(update={"datasets": {"events": base.datasets["events"].model_copy(update=changes)}})
        pipeline = build(config)
        pipeline.close()
        return series_estimate(config, pipeline.checks)

    few = estimate()
    # Two newest times and two results for each producer more.
    assert estimate(most_sources=13) == few + 10 * 4
    assert estimate(sources=("ios", "web")) == few - 4
    # Score and threshold; and as soon as there are more than two, their verdict, value and limit.
    assert estimate(features=("price", "device")) == few + 2
    assert estimate(features=("price", "device", "page")) == few + 2 + 2 + 3
    assert estimate(watch=False) == 17, "what is said about the daemon itself and the engine for files"


def test_too_many_possible_series_are_refused_at_the_start() -> None:
    config = configured(max_series=100)
    pipeline = build(config)
    with pytest.raises(
        ConfigError, match=r"^limits.max_series: must be at least \d+ for .*, got 100; raise it, or"
    ) as refused:
        series_estimate(config, pipeline.checks)
    pipeline.close()
    assert "recwatch_check_runs_total on events" in str(refused.value)


# -- failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["series", "runs", "latest_figures"])
def test_a_store_that_can_not_be_read_fails_the_scrape(
    store: Store, watched: Watched, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    def fail() -> None:
        raise StateError("cannot be read")

    monkeypatch.setattr(store, read, fail)
    with pytest.raises(StateError):
        generate_latest(registry(Exposition(store, lambda: watched, SystemClock())))


def test_names_are_taken_in_the_registry(store: Store, watched: Watched) -> None:
    found: CollectorRegistry = registry(Exposition(store, lambda: watched, SystemClock()))
    with pytest.raises(ValueError, match="Duplicated"):
        found.register(Exposition(store, lambda: watched, SystemClock()))
    only: Callable[[str], list[Any]] = lambda name: list(found.restricted_registry([name]).collect())  # noqa: E731
    assert [family.name for family in only("recwatch_series")] == ["recwatch_series"]


def test_every_metric_says_what_it_means(store: Store, watched: Watched) -> None:
    text = generate_latest(registry(Exposition(store, lambda: watched, SystemClock()))).decode()
    for metric in BY_NAME.values():
        escaped = metric.help.replace("\\", r"\\").replace("\n", r"\n")
        assert f"# HELP {metric.name} {escaped}\n" in text
        assert f"# TYPE {metric.name} {metric.kind}\n" in text


# -- what is kept between scrapes is never stale ---------------------------------------------------


def told(exposition: Exposition, metric: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the values of one metric by labels, of one scrape of an exposition that was scraped before."""
    found: dict[tuple[tuple[str, str], ...], float] = {}
    for family in exposition.collect():
        for sample in family.samples:
            if sample.name == metric:
                labels = {name: text for name, text in sample.labels.items() if name != "pipeline"}
                assert of(**labels) not in found, "twice"
                found[of(**labels)] = sample.value
    return found


NEWEST = "recwatch_newest_event_timestamp_seconds"


def newest(number: int, **at: float) -> Judged:
    gauges = [Sample(NEWEST, {"dataset": "events", "source": source}, value) for source, value in at.items()]
    return judged("freshness", number=number, gauges=gauges)


def test_each_scrape_tells_what_the_state_holds_now(store: Store, watched: Watched) -> None:
    exposition = Exposition(store, lambda: watched, SystemClock())
    assert told(exposition, NEWEST) == {}
    for number, at in enumerate(({"ios": 1e9}, {"ios": 2e9, "web": 1e9}, {"web": 3e9})):
        store.commit(newest(number, **at))
        for _again in range(2):
            assert told(exposition, NEWEST) == {of(dataset="events", source=name): n for name, n in at.items()}
        assert told(exposition, "recwatch_check_runs_total")[of(**FRESH, outcome="good")] == (0, 2, 3)[number]
        finished = (NOON + (number + 1.5) * MINUTE).timestamp()
        assert told(exposition, "recwatch_check_last_run_timestamp_seconds") == {of(**FRESH): finished}
    for number, outcome in enumerate((Outcome.BAD, Outcome.UNKNOWN, Outcome.GOOD), start=3):
        store.commit(judged("freshness", outcome, number))
        said = {Outcome.BAD: {of(**FRESH): 0}, Outcome.UNKNOWN: {}, Outcome.GOOD: {of(**FRESH): 1}}
        assert told(exposition, "recwatch_check_good") == said[outcome]


def test_what_another_daemon_writes_is_seen_at_the_next_scrape(store: Store, watched: Watched, tmp_path: Path) -> None:
    exposition, other = (
        Exposition(store, lambda: watched, SystemClock()),
        Store(f"sqlite:///{tmp_path}/state.db", "shop"),
    )
    for number in range(3):
        other.commit(newest(number, ios=1e9 + number))
        assert told(exposition, NEWEST) == {of(dataset="events", source="ios"): 1e9 + number}
    other.close()


def test_a_reload_is_seen_at_the_next_scrape(store: Store, watched: Watched) -> None:
    inforce = [watched]
    exposition = Exposition(store, lambda: inforce[0], SystemClock())
    store.commit(newest(0, ios=1e9))
    ios = {of(dataset="events", source="ios"): 1e9}
    assert told(exposition, NEWEST) == ios
    rest = tuple(check for check in watched.checks["events"] if check.id != "freshness")
    inforce[0] = replace(watched, checks={"events": rest})
    assert told(exposition, NEWEST) == {}
    assert told(exposition, "recwatch_check_enabled")[of(**FRESH)] == 0
    assert told(exposition, "recwatch_check_last_run_timestamp_seconds") == {}
    # A role that is missing is noticed by a run, without a reload.
    inforce[0] = replace(watched, disabled={("events", "freshness"): Disabled("freshness", "events", "needs a role")})
    assert told(exposition, NEWEST) == {}
    inforce[0] = replace(watched, config=configured(max_series=4_000))
    assert told(exposition, NEWEST) == ios
    renamed = watched.config.model_copy(update={"pipeline": "mall"})
    inforce[0] = replace(watched, config=renamed, read_problem="unknown key", is_leader=False)
    samples = [sample for family in exposition.collect() for sample in family.samples]
    assert {sample.labels["pipeline"] for sample in samples} == {"mall"}
    values = {sample.name: sample.value for sample in samples}
    assert (values["recwatch_config_last_reload_successful"], values["recwatch_leader"]) == (0, 0)


def test_objectives_follow_a_reload(store: Store) -> None:
    pipeline = build(configured())
    watched = Watched(pipeline.config, pipeline.checks, {}, NOON, slos=pipeline.slos)
    inforce = [watched]
    exposition = Exposition(store, lambda: inforce[0], SystemClock())
    name = "recwatch_slo_objective_ratio"
    assert len(told(exposition, name)) == len(pipeline.slos) > 5
    assert set(told(exposition, "recwatch_slo_checks_total").values()) == {0}
    slo = pipeline.slos["events-freshness"]
    inforce[0] = replace(watched, slos={"mine": replace(slo, name="mine", objective=0.5)})
    assert told(exposition, name) == {of(slo="mine"): 0.5}
    pipeline.close()


def test_labels_that_are_cut_or_cleaned_to_the_same_are_one_series(store: Store, watched: Watched) -> None:
    gauges = [
        Sample(NEWEST, {"dataset": "events", "source": source}, at) for source, at in (("a ?", 1), ("a \ud800", 2))
    ]
    store.commit(judged("freshness", gauges=gauges))
    assert list(told(Exposition(store, lambda: watched, SystemClock()), NEWEST)) == [of(dataset="events", source="a ?")]


def test_series_that_come_and_go_leave_nothing_behind(store: Store, watched: Watched) -> None:
    plan = Plan(replace(watched, config=configured(max_series=100)))
    for number in range(1_000):
        name = series_name(Sample(NEWEST, {"dataset": "events", "source": f"s{number}"}, 0))
        written = f'{NEWEST}{{dataset="events",pipeline="shop",source="s{number}"}}'
        assert plan.shown(name) == (NEWEST, written) == plan.shown(name)
        assert plan.shown(name.replace("events", "gone")) is None
    assert plan.shown.cache_info().currsize <= 200


def test_a_scrape_is_one_reading_of_the_state(
    store: Store, watched: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exposition, other = (
        Exposition(store, lambda: watched, SystemClock()),
        Store(f"sqlite:///{tmp_path}/state.db", "shop"),
    )
    other.commit(newest(0, ios=1e9))
    read = store.latest_figures

    def meanwhile() -> Any:
        other.commit(newest(1, ios=2e9))
        return read()

    monkeypatch.setattr(store, "latest_figures", meanwhile)
    found = {sample.name: sample.value for family in exposition.collect() for sample in family.samples}
    assert found[NEWEST] == 1e9, "of the moment at which the scrape began"
    monkeypatch.setattr(store, "latest_figures", read)
    assert told(exposition, NEWEST) == {of(dataset="events", source="ios"): 2e9}
    other.close()


def test_a_state_on_postgresql_is_told_alike(store: Store, watched: Watched, postgresql: str) -> None:
    served = Store(postgresql, "exposed")
    rows = Sample("recwatch_contract_rows_total", {"dataset": "events", "result": "valid"}, 7)
    for kept_in in (store, served):
        for number in range(2):
            kept_in.commit(newest(number, **{'a "b" \\': 1e9 + 0.25}))
            kept_in.commit(judged("contract", number=number, increments=[rows]))
    one, other = (Exposition(kept_in, lambda: watched, SystemClock()).lines() for kept_in in (store, served))
    for (metric, lines), (_same, others) in zip(one, other, strict=True):
        if metric.name != "recwatch_state_bytes":
            assert sorted(lines) == sorted(others), metric.name
    served.close()
