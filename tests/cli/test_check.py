"""``recwatch check`` and ``recwatch baseline`` as gates and tools: exit codes, JSON, table."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from checks.window import Window
from monitor import cli
from monitor.clock import ManualClock
from monitor.config import Config
from monitor.faults import Fault
from monitor.load import load
from monitor.resolve import build
from monitor.runner import Runner
from monitor.store import Store
from monitor.stream import LiveWriter, Stream, StreamSettings

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAULTY = START + 10 * MINUTE
Recwatch = Callable[..., Any]

CONFIG = """\
state: sqlite:///FOLDER/state.db
datasets:
  events:
    files: FOLDER/events/*.parquet
    roles: {event_id: event_id, user: user_id, item: item_id, event_type: event_type, event_time: event_time,
            ingested_at: ingested_at, source: source}
    features: [device]
    items: items
  items:
    files: FOLDER/items.parquet
    roles: {item: item_id}
checks:
  density: {every: 1m, window: 1m}
  feature_drift: {every: 1m, window: 1m}
  popularity: {every: 1m, window: 1m}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    stream = Stream(StreamSettings(events_per_second=30, users=5_000, items=300))
    fault = Fault("missing_users", FAULTY, FAULTY + 2 * MINUTE)
    LiveWriter(stream, folder, START, faults=(fault,)).advance(START + 14 * MINUTE)
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> str:
    """A configuration with a state of its own; baselines of one test are none of another's."""
    path = tmp_path / "recwatch.yml"
    text = CONFIG.replace("FOLDER/state.db", f"{tmp_path}/state.db").replace("FOLDER", str(folder))
    path.write_text(text)
    return str(path)


def span(start: datetime, minutes: int) -> tuple[str, ...]:
    return ("--from", start.isoformat(), "--to", (start + minutes * MINUTE).isoformat())


@pytest.mark.parametrize("asked", [("check", *span(START, 5)), ("baseline", "show")])
def test_lines_stay_whole_in_a_pipe(asked: tuple[str, ...], config: str) -> None:
    build = CliRunner().invoke(cli.recwatch, ["baseline", "build", "-c", config, *span(START, 5)])
    assert build.exit_code == 0, build.output
    said = CliRunner().invoke(cli.recwatch, [*asked, "-c", config], env={"COLUMNS": None})
    assert "popularity" in said.output
    assert [line for line in said.output.splitlines() if line.startswith(" " * 20)] == [], "the rest of a cell"


def test_a_healthy_span_exits_0_and_leaves_nothing_behind(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, *span(START, 5))
    assert said.code == 0, said
    assert "✓ good" in said.out
    assert not Path(config).with_name("state.db").exists()


@pytest.mark.parametrize("clocks", [2, 1], ids=["two clocks", "one clock"])
def test_what_came_later_is_not_dated_in_the_future(recwatch: Recwatch, config: str, clocks: int) -> None:
    if clocks == 1:
        path = Path(config)
        path.write_text(path.read_text().replace("ingested_at: ingested_at, ", ""))
    said = recwatch("check", "-c", config, "--only", "freshness", "--json", *span(START, 5))
    whole = next(found for found in map(json.loads, said.out.splitlines()) if not found.get("source"))
    assert (whole["verdict"], "future" in whole["reason"]) == ("good", False), whole
    window = Window(START, START + 5 * MINUTE)
    with closing(build(load(Path(config)))) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == "freshness")
        runner, counts = Runner(pipeline, None, ManualClock(window.end)), []
        for runner.replays in (False, True):
            (judged,) = runner.run("events", [(check, window)])
            counts.append(judged.verdicts[0].details["future"])
    assert (counts[0] > 0, counts[1]) == (True, 0), "only what replays knows that it is the past"


def test_a_replay_does_not_count_what_landed_after_it_was_judged(tmp_path: Path) -> None:
    """A feed that was held back for an hour: the daemon would have told, though everything is there by now."""
    late, window = START + 60 * MINUTE, Window(START, START + MINUTE)
    # A window is judged two minutes after its end.
    in_time, too_late = window.end + timedelta(seconds=119), window.end + timedelta(seconds=120)
    landed_at = [START, in_time, too_late, late] * 15
    rows = [f"{START + n * timedelta(seconds=1):%FT%TZ},{at:%FT%TZ}" for n, at in enumerate(landed_at)]
    (tmp_path / "events.csv").write_text("\n".join(["at,landed", *rows]))
    (tmp_path / "sends.csv").write_text(f"at,n\n{START:%FT%TZ},60\n")
    sends = {"files": f"{tmp_path}/sends.csv", "roles": {"event_time": "at", "value": "n"}}
    roles = {"event_time": "at", "ingested_at": "landed"}
    datasets = {"events": {"files": f"{tmp_path}/events.csv", "roles": roles, "sent": "sends"}, "sends": sends}
    config = Config.model_validate({"datasets": datasets, "checks": {"ingestion": {"min_rows": 1}}})
    with closing(build(config)) as pipeline:
        check = next(check for check in pipeline.checks["events"] if check.id == "ingestion")
        runner, landed = Runner(pipeline, None, ManualClock(late)), []
        for runner.replays in (False, True):
            (judged,) = runner.run("events", [(check, window)])
            landed.append(judged.verdicts[0].details["landed"])
    assert landed == [60, 30]


def test_a_backtest_of_less_than_a_week_reckons_no_weeks(recwatch: Recwatch, config: str) -> None:
    said = recwatch("backtest", "-c", config, *span(START, 5)).out.splitlines()
    assert said[0] == "0 pages and 0 tickets in 5 min"
    assert not any("No check could judge" in line for line in said)
    long_ago = recwatch("backtest", "-c", config, *span(START - 500 * MINUTE, 5)).out
    assert "No check could judge anything: see whether there is data in 2026-03-03 03:40 to 03:45 UTC." in long_ago


def test_a_backtest_names_the_checks_that_were_bad(recwatch: Recwatch, config: str, tmp_path: Path) -> None:
    """Many may be before anybody is told."""
    said = recwatch("backtest", "-c", config, *span(FAULTY, 5), "--json", str(tmp_path / "found.jsonl")).out
    totals = json.loads((tmp_path / "found.jsonl").read_text().splitlines()[-1])["totals"]
    assert sum(totals["bad"].values()) == totals["runs"]["bad"] > 0
    name, count = next(iter(totals["bad"].items()))
    assert f"; bad: {name} {count}" in said


def test_each_verdict_stands_under_its_window(recwatch: Recwatch, config: str) -> None:
    lines = recwatch("check", "-c", config, "--at", (FAULTY + 1.5 * MINUTE).isoformat()).out.splitlines()
    titles = {line.rstrip(): at for at, line in enumerate(lines) if line.startswith("events, ")}
    assert list(titles) == [
        "events, 2026-03-03 11:11:30 to 12:11:30 UTC",
        "events, 2026-03-03 12:08 to 12:09 UTC",
        "events, 2026-03-03 12:10 to 12:11 UTC",
    ]
    checks = {line.split()[0]: at for at, line in reversed(list(enumerate(lines))) if line.strip()}
    assert checks["freshness"] < titles["events, 2026-03-03 12:08 to 12:09 UTC"] < checks["ingestion"]
    assert checks["ingestion"] < titles["events, 2026-03-03 12:10 to 12:11 UTC"] < checks["contract"]
    (title,) = [line for line in recwatch("check", "-c", config, *span(START, 5)).out.splitlines() if "UTC" in line]
    assert title.rstrip() == "events, 2026-03-03 12:00 to 12:05 UTC"


def test_sources_stand_below_what_they_are_part_of(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, "--only", "duplicates", *span(START, 5)).out.splitlines()
    names = [line.partition(" ✓")[0].partition(" ?")[0].strip() for line in said]
    assert names.index("duplicates") < names.index("ios") < names.index("duplicates semantic")


def test_a_fault_exits_1_and_is_named(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, *span(FAULTY, 2))
    assert said.code == 1
    assert "✗ bad" in said.out
    assert "Look at: unknown_ids" in said.out


def test_a_state_that_cannot_be_read_is_no_bad_data(recwatch: Recwatch, config: str) -> None:
    Path(config).with_name("state.db").write_text("hello, this is no database at all, nor has it ever been one")
    said = recwatch("check", "-c", config, *span(START, 5))
    assert said.code == 3, said


def test_json_has_one_object_per_verdict_with_the_promised_keys(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, "--json", *span(FAULTY, 2))
    rows = [json.loads(line) for line in said.out.splitlines()]
    promised = {"check", "dataset", "window", "verdict", "value", "good", "total", "limit", "reason", "details"}
    assert all(promised <= set(row) for row in rows)
    assert {row["window"]["start"] for row in rows if row["check"] == "unknown_ids"} == {FAULTY.isoformat()}
    user = next(row for row in rows if row.get("entity") == "user" and row.get("source") == "ios")
    assert user["verdict"] == "bad"
    assert user["details"]["causes"]["missing"] == user["total"] - user["good"]


def test_only_limits_the_run(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, "--json", "--only", "duplicates", *span(FAULTY, 2))
    assert said.code == 0
    assert {json.loads(line)["check"] for line in said.out.splitlines()} == {"duplicates"}


def test_all_judges_everything_there_is(recwatch: Recwatch, config: str) -> None:
    said = recwatch("check", "-c", config, "--json", "--all", "--only", "contract")
    whole = json.loads(said.out.splitlines()[0])
    assert datetime.fromisoformat(whole["window"]["start"]) >= START
    assert whole["total"] > 20_000


def test_all_counts_what_was_sent_in_the_minute_of_the_first_event(recwatch: Recwatch, tmp_path: Path) -> None:
    rows = [f"2026-03-03 12:{minute:02}:{second:02}" for minute in range(3) for second in range(7, 57)]
    (tmp_path / "events.csv").write_text("at\n" + "\n".join(rows) + "\n")
    (tmp_path / "sent.csv").write_text("minute,n\n" + "".join(f"2026-03-03 12:{at:02}:00,50\n" for at in range(3)))
    config = tmp_path / "recwatch.yml"
    config.write_text(
        f"state: sqlite:///{tmp_path}/state.db\ndatasets:\n"
        f"  events: {{files: {tmp_path}/events.csv, roles: {{event_time: at}}, sent: sends}}\n"
        f"  sends: {{files: {tmp_path}/sent.csv, roles: {{event_time: minute, value: n}}}}\n"
    )
    said = recwatch("check", "-c", str(config), "--json", "--all", "--only", "ingestion")
    whole = json.loads(said.out.splitlines()[0])
    assert whole["window"]["start"] == START.isoformat()
    assert (whole["good"], whole["total"], whole["details"]["surplus"]) == (150, 150, 0)


def test_all_of_times_that_are_none_is_refused_with_a_way_out(recwatch: Recwatch, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(f"at,user\n1770000000,ann\n{2**62},bob\n")
    config = tmp_path / "recwatch.yml"
    config.write_text(
        f"pipeline: shop\nstate: sqlite:///{tmp_path}/state.db\n"
        f"datasets: {{events: {{files: {tmp_path}/events.csv, roles: {{event_time: at, user: user}}}}}}\n"
    )
    said = recwatch("check", "-c", str(config), "--all")
    assert said.code == 2
    assert "datasets.events: column at has times outside the years 1 to 9999" in said.err
    assert "use --from and --to" in said.err


def test_all_warns_of_a_column_that_holds_no_times(recwatch: Recwatch, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("price,ts,user\n10.5,1770000000,ann\n11.5,1770000001,bob\n")
    config = tmp_path / "recwatch.yml"
    one = f"datasets: {{events: {{files: {tmp_path}/events.csv, roles: {{event_time: price, user: user}}}}}}\n"
    config.write_text(one)
    said = recwatch("check", "-c", str(config), "--all", "--only", "contract")
    assert "warning: datasets.events: no time of column price (role event_time) is between 1990 and 2100" in said.err
    config.write_text(one.replace("price", "ts"))
    assert recwatch("check", "-c", str(config), "--all", "--only", "contract").err == ""


def test_at_judges_the_newest_settled_windows_of_that_time(recwatch: Recwatch, config: str) -> None:
    at = FAULTY + 95 * timedelta(seconds=1)
    said = recwatch("check", "-c", config, "--json", "--at", at.isoformat())
    windows = {row["check"]: row["window"] for row in map(json.loads, said.out.splitlines())}
    assert windows["freshness"]["end"] == at.isoformat()
    assert windows["duplicates"] == {"start": FAULTY.isoformat(), "end": (FAULTY + MINUTE).isoformat()}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--at", "2026-03-03", "--all"), "--at and --all exclude each other"),
        (("--from", "2026-03-03"), "--from and --to go together"),
        (("--from", "2026-03-03", "--to", "2026-03-02"), "--to must be after --from"),
        (("--at", "yesterday"), "must be a time, got yesterday"),
        (("--only", "freshnes"), "no check freshnes is enabled"),
    ],
)
def test_wrong_arguments_exit_2_and_say_what_to_do(
    recwatch: Recwatch, config: str, arguments: tuple[str, ...], says: str
) -> None:
    said = recwatch("check", "-c", config, *arguments)
    assert said.code == 2
    assert says in said.err


def test_data_that_cannot_be_read_exits_3(recwatch: Recwatch, config: str) -> None:
    Path(config).write_text(Path(config).read_text().replace("/events/*.parquet", "/gone/*.parquet"))
    said = recwatch("check", "-c", config, "--all")
    assert said.code == 3
    assert "! error" in said.out
    assert "gone/*.parquet" in said.out


def test_a_missing_configuration_exits_2(recwatch: Recwatch, tmp_path: Path) -> None:
    said = recwatch("check", "-c", str(tmp_path / "none.yml"))
    assert said.code == 2
    assert "none.yml" in said.err


def test_baselines_are_built_shown_pinned_used_and_dropped(recwatch: Recwatch, config: str) -> None:
    assert recwatch("check", "-c", config, "--json", "--only", "popularity", *span(FAULTY, 2)).code == 0
    built = recwatch("baseline", "build", "-c", config, *span(START, 9))
    assert built.code == 0, built
    assert "density on events: 9 windows" in built.out
    assert "popularity on events: reference" in built.out
    shown = recwatch("baseline", "show", "-c", config).out
    assert "2026-03-03 12:00 to 12:09 UTC" in shown
    pinned = recwatch("baseline", "pin", "-c", config, "--only", "popularity")
    assert pinned.out == "popularity on events: pinned\n"
    assert "pinned" in recwatch("baseline", "show", "-c", config).out

    said = recwatch("check", "-c", config, "--json", *span(START + 9 * MINUTE, 1))
    judged = {row["check"]: row["verdict"] for row in map(json.loads, said.out.splitlines()) if "source" not in row}
    assert judged["popularity"] == "good"
    assert judged["feature_drift"] == "good"
    assert judged["density"] == "good"
    assert recwatch("baseline", "drop", "-c", config).code == 0
    after = recwatch("check", "-c", config, "--json", "--only", "popularity", *span(START + 9 * MINUTE, 1))
    assert json.loads(after.out)["verdict"] == "unknown"


def test_a_baseline_is_of_the_last_days_where_no_span_is_given(recwatch: Recwatch, tmp_path: Path) -> None:
    """As the runbook of a contract says it, after an intended change."""
    now = datetime.now(UTC)
    rows = [f"u{n % 9},i{n % 7},{now - timedelta(minutes=5, seconds=n):%FT%T}" for n in range(200)]
    (tmp_path / "events.csv").write_text("\n".join(("user,item,at", *rows)))
    config = tmp_path / "recwatch.yml"
    config.write_text(
        f"datasets: {{events: {{files: {tmp_path}/events.csv, roles: {{user: user, item: item, event_time: at}}}}}}\n"
    )
    built = recwatch("baseline", "build", "-c", str(config), "--only", "contract")
    assert (built.code, built.out) == (0, "contract on events: reference\n")
    assert f"{now - timedelta(days=7):%Y-%m-%d}" in recwatch("baseline", "show", "-c", str(config)).out
    half = recwatch("baseline", "build", "-c", str(config), "--from", "2026-01-01")
    assert half.code == 2
    assert "--from and --to go together" in half.err


@pytest.mark.parametrize("change", [("pin",), ("pin", "--unpin"), ("drop",)])
def test_a_baseline_that_is_not_there_is_neither_pinned_nor_dropped(
    recwatch: Recwatch, config: str, change: tuple[str, ...]
) -> None:
    said = recwatch("baseline", *change, "-c", config, "--only", "popularity")
    assert (said.code, said.out) == (2, "")
    assert f"nothing to {change[-1].lstrip('-')}; see recwatch baseline show -c {config}" in said.err


def test_a_span_without_data_is_no_history(recwatch: Recwatch, config: str) -> None:
    longer = Window(START - timedelta(minutes=30), START + timedelta(minutes=30))
    built = recwatch("baseline", "build", "-c", config, "--only", "ingestion", *span(longer.start, 60))
    assert (built.code, built.out) == (0, "ingestion on events: 14 windows\n")
    with closing(Store(f"sqlite:///{Path(config).with_name('state.db')}", "default")) as store:
        ends = store.window_ends("events", "ingestion", longer)
    assert (min(ends), max(ends)) == (START + MINUTE, START + 14 * MINUTE)
    again = recwatch("baseline", "build", "-c", config, "--only", "ingestion", *span(longer.start, 60))
    assert again.code == 0, "there is a past already"
    built = recwatch("baseline", "build", "-c", config, "--only", "ingestion", *span(START - timedelta(days=365), 60))
    assert built.code == 3
    assert "ingestion on events: no rows from" in built.err


def test_past_windows_are_judged_in_their_order_and_the_newest_kept(
    recwatch: Recwatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last minute has ten times as many rows as those before, which is bad and so no part of what is usual."""
    rows = [
        f"{START + minute * MINUTE:%FT%T}" for minute, many in enumerate((100,) * 6 + (1_000,)) for _n in range(many)
    ]
    (tmp_path / "events.csv").write_text("\n".join(("at", *rows)))
    config = tmp_path / "recwatch.yml"
    config.write_text(
        f"state: sqlite:///{tmp_path}/state.db\nchecks: {{ingestion: {{min_history: 3}}}}\n"
        f"datasets: {{events: {{files: {tmp_path}/events.csv, roles: {{event_time: at}}}}}}\n"
    )
    monkeypatch.setattr("monitor.baselines.MOST_WINDOWS", 5)
    built = recwatch("baseline", "build", "-c", str(config), "--only", "ingestion", *span(START, 7))
    assert built.out == "ingestion on events: 5 windows\n"
    with closing(Store(f"sqlite:///{tmp_path}/state.db", "default")) as store:
        ends = store.window_ends("events", "ingestion", Window(START, START + 7 * MINUTE))
        assert store.accepted_windows("events", "ingestion") == 4
    assert (min(ends), max(ends)) == (START + 3 * MINUTE, START + 7 * MINUTE)


def test_windows_without_a_density_are_no_history_and_are_not_counted(recwatch: Recwatch, config: str) -> None:
    build = ("baseline", "build", "-c", config, "--only", "density")
    built = recwatch(*build, *span(START - timedelta(minutes=30), 60))
    assert built.out == "density on events: 14 windows\n"
    with closing(Store(f"sqlite:///{Path(config).with_name('state.db')}", "default")) as store:
        assert store.accepted_windows("events", "density") == 14
    assert recwatch(*build, *span(START, 14)).out == "density on events: nothing new\n"
    built = recwatch(*build, *span(START - timedelta(days=365), 60))
    assert built.code == 3
    assert "density on events: too few rows from 2025-03-03 12:00 to 2025-03-03 13:00" in built.err


def test_what_cannot_run_is_told_by_a_build_that_names_it(recwatch: Recwatch, config: str) -> None:
    text = Path(config).read_text()
    Path(config).write_text(text.replace("features: [device]", ""))
    build = ("baseline", "build", "-c", config, *span(START, 10))
    assert "feature_drift" not in recwatch(*build).err
    named = recwatch(*build, "--only", "feature_drift")
    assert (named.code, "feature_drift on events: " in named.err) == (3, True)


def test_a_misspelt_feature_is_named(recwatch: Recwatch, config: str) -> None:
    text = Path(config).read_text()
    Path(config).write_text(text.replace("features: [device]", "features: [device, prise]"))
    built = recwatch("baseline", "build", "-c", config, "--only", "feature_drift", *span(START, 10))
    assert built.code == 3
    assert "features: column prise is not in the data" in built.err


def test_a_misspelt_column_is_named_with_what_may_have_been_meant(recwatch: Recwatch, config: str) -> None:
    Path(config).write_text(Path(config).read_text().replace("user: user_id", "user: userid"))
    said = recwatch("check", "-c", config, "--json", "--only", "unknown_ids", *span(START, 2))
    assert said.code == 3
    reasons = [json.loads(line)["reason"] for line in said.out.splitlines()]
    assert reasons == ["column userid (role user) is not in the data; did you mean user_id?"]


def test_a_reference_without_enough_rows_says_so_and_exits_3(recwatch: Recwatch, config: str) -> None:
    said = recwatch("baseline", "build", "-c", config, "--only", "popularity", *span(START - 60 * MINUTE, 5))
    assert said.code == 3
    assert "the reference has 0 rows, 500 are needed; choose a longer span" in said.err
