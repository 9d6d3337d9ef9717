"""Many pipelines in one process: contained, apart from each other, and free to come and go."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.clock import ManualClock
from monitor.errors import ConfigError, StateError
from monitor.fleet import Fleet
from monitor.fleet_app import FleetApp
from monitor.records import Judged
from monitor.stream import LiveWriter, Stream, StreamSettings
from monitor.workers import Workers, lanes

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONFIG = """\
pipeline: NAME
state: sqlite:///state.db
datasets:
  events:
    files: data/events/*.parquet
    roles: {event_id: event_id, event_time: event_time, ingested_at: ingested_at}
checks:
  duplicates: {enabled: false}
  ingestion: {enabled: false}
  contract: {settle: 0s}
channels: {team: {type: console}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stream = Stream(StreamSettings(events_per_second=5, users=200, items=20))
    LiveWriter(stream, tmp_path / "data", START - 5 * MINUTE).advance(START + 5 * MINUTE)
    write(tmp_path, "shop")
    write(tmp_path, "news")
    return tmp_path


def write(folder: Path, name: str, change: Callable[[str], str] = lambda text: text) -> Path:
    path = folder / f"{name}.yml"
    is_new = not path.exists()
    path.write_text(change(CONFIG.replace("NAME", name)))
    if not is_new:
        # File systems tell times apart by less than a test takes, but not all of them.
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
    return path


@pytest.fixture
def fleet(folder: Path) -> Iterator[Fleet]:
    fleet = Fleet([folder], ManualClock(START))
    yield fleet
    fleet.stop()


def names(fleet: Fleet) -> list[str]:
    return sorted(member.name for member in fleet.members.values())


def member(fleet: Fleet, name: str) -> Any:
    return next(member.daemon for member in fleet.members.values() if member.name == name)


def tick(fleet: Fleet, *wanted: str) -> None:
    for name in wanted:
        daemon = member(fleet, name)
        for dataset, checks in daemon.live.pipeline.checks.items():
            daemon.tick(dataset, list(checks))


def ask(
    fleet: Fleet, path: str, query: str = "", body: bytes | None = None, kind: str = "application/json", shows: str = ""
) -> tuple[int, str, dict[str, str]]:
    """Return the answer of the application: status, body and headers."""
    told: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET" if body is None else "POST", "PATH_INFO": path, "QUERY_STRING": query,
        "wsgi.input": io.BytesIO(body or b""), "CONTENT_LENGTH": str(len(body or b"")), "CONTENT_TYPE": kind,
        "HTTP_AUTHORIZATION": shows,
    }  # fmt: skip
    answer = b"".join(FleetApp(fleet)(environ, lambda status, headers: told.extend((status, headers))))
    return int(told[0].split()[0]), answer.decode(), dict(told[1])


def series(fleet: Fleet, metric: str) -> dict[str, float]:
    """Return the values of a metric by pipeline."""
    found = {}
    for row in ask(fleet, "/metrics")[1].splitlines():
        if row.startswith(f"{metric}{{"):
            found[row.split('pipeline="')[1].split('"')[0]] = float(row.rsplit(" ", 1)[1])
    return found


def judge_bad(fleet: Fleet, name: str) -> str:
    """Have a check of a pipeline be bad once; return the id of the evidence."""
    daemon, window = member(fleet, name), Window(START - MINUTE, START)
    verdict = Verdict("contract", "events", window, Outcome.BAD, "invalid_ratio", 0.5, 0.1)
    judged = Judged("contract", "events", window, (verdict,), START, 0.1, Tally("events", window))
    daemon.store.commit(judged)
    return str(daemon.live.evidence.after(judged)[0])


# -- files that come, change and go ----------------------------------------------------------------


def test_a_folder_runs_a_pipeline_for_each_file(fleet: Fleet) -> None:
    assert names(fleet) == ["news", "shop"]
    assert fleet.broken == {}
    tick(fleet, "news", "shop")
    assert fleet.pending() == "news: the schedule does not run; shop: the schedule does not run", "nor is it started"


def test_a_broken_file_stops_no_other_and_is_seen(folder: Path) -> None:
    write(folder, "ads", lambda text: text.replace("settle: 0s", "settle: soon"))
    fleet = Fleet([folder], ManualClock(START))
    try:
        assert names(fleet) == ["news", "shop"]
        assert "settle" in fleet.broken[folder / "ads.yml"].problem
        assert series(fleet, "recwatch_pipeline_up") == {"ads": 0, "news": 1, "shop": 1}
        assert series(fleet, "recwatch_config_last_reload_successful") == {"ads": 0, "news": 1, "shop": 1}
        told = json.loads(ask(fleet, "/api/status")[1])
        assert told["state"] == "error"
        assert (told["pipelines"][0]["pipeline"], told["pipelines"][0]["path"]) == ("ads", "")
        assert "settle" in ask(fleet, "/")[1]
        # Mended, it starts; nobody else notices.
        before = member(fleet, "shop")
        write(folder, "ads")
        fleet.look()
        assert (names(fleet), fleet.broken) == (["ads", "news", "shop"], {})
        assert member(fleet, "shop") is before
    finally:
        fleet.stop()


def test_a_file_that_comes_starts_and_one_that_goes_stops(fleet: Fleet, folder: Path) -> None:
    gone = member(fleet, "news")
    write(folder, "ads")
    (folder / "news.yml").unlink()
    fleet.look()
    assert names(fleet) == ["ads", "news", "shop"], "an editor may be at it"
    fleet.look()
    assert names(fleet) == ["ads", "shop"]
    assert not gone.lease.is_held
    write(folder, "news")
    fleet.look()
    assert names(fleet) == ["ads", "news", "shop"]


def test_a_state_that_is_away_at_the_start_is_tried_again(fleet: Fleet, folder: Path) -> None:
    write(folder, "ads", lambda text: text.replace("sqlite:///state.db", f"sqlite:///{folder}/later/state.db"))
    fleet.look()
    assert "cannot be opened" in fleet.broken[folder / "ads.yml"].problem
    (folder / "later").mkdir()
    fleet.look()
    assert names(fleet) == ["news", "shop"], "not at every look"
    assert isinstance(fleet.clock, ManualClock)
    fleet.clock.move(MINUTE)
    fleet.look()
    assert (names(fleet), fleet.broken) == (["ads", "news", "shop"], {})


def test_each_reloads_alone(fleet: Fleet, folder: Path) -> None:
    shop, news = member(fleet, "shop"), member(fleet, "news")
    before = shop.live, news.live
    fleet.workers.scheduler.start(paused=True)
    write(folder, "shop", lambda text: text.replace("settle: 0s", "settle: 1m"))
    write(folder, "news", lambda text: text.replace("settle: 0s", "settle: soon"))
    for daemon in (shop, news):
        daemon._reload_if_changed()
    assert shop.live is not before[0]
    assert news.live is before[1]
    assert series(fleet, "recwatch_config_last_reload_successful") == {"news": 0, "shop": 1}
    assert series(fleet, "recwatch_pipeline_up") == {"news": 1, "shop": 1}
    assert json.loads(ask(fleet, "/api/status")[1])["pipelines"][0]["problems"]


def test_two_files_with_one_name_are_told_apart(fleet: Fleet, folder: Path) -> None:
    (folder / "copy.yml").write_text((folder / "shop.yml").read_text())
    fleet.look()
    assert names(fleet) == ["news", "shop"]
    problem = fleet.broken[folder / "copy.yml"].problem
    assert "must be unlike that of" in problem
    assert str(folder / "shop.yml") in problem
    assert series(fleet, "recwatch_pipeline_up") == {"copy.yml": 0, "news": 1, "shop": 1}
    # When the other one goes, nothing stands in its way any more.
    (folder / "shop.yml").unlink()
    for _look in range(3):
        fleet.look()
    assert (names(fleet), fleet.broken) == (["news", "shop"], {})


def test_one_server_for_all(folder: Path) -> None:
    write(folder, "news", lambda text: text + "server: {port: 0}\n")
    write(folder, "shop", lambda text: text + "server: {port: 9999}\n")
    fleet = Fleet([folder], ManualClock(START))
    assert fleet.server.port == 0
    assert names(fleet) == ["news"]
    problem = fleet.broken[folder / "shop.yml"].problem
    assert str(folder / "shop.yml") in problem
    assert f"that of {folder / 'news.yml'}" in problem
    fleet.stop()
    # The command line is over both.
    fleet = Fleet([folder], ManualClock(START), {"host": "0.0.0.0", "port": 0})
    assert names(fleet) == ["news", "shop"]
    proof = judge_bad(fleet, "shop")
    assert ask(fleet, f"/p/shop/evidence/{proof}")[0] == 403, "who may see it depends on where it is really served"
    fleet.stop()


def test_one_password_opens_the_front_page_and_what_is_below(folder: Path) -> None:
    write(folder, "news", lambda text: text + "server: {port: 0, auth: {token: secret-of-all}}\n")
    write(folder, "shop")
    fleet = Fleet([folder], ManualClock(START), {"host": "0.0.0.0"})
    proof = judge_bad(fleet, "shop")
    for path in ("/", "/metrics", "/api/status", "/p/shop/", "/p/shop", "/p/shop/metrics", f"/evidence/{proof}"):
        assert ask(fleet, path)[0] == 401, path
        assert ask(fleet, path, shows="Bearer secret-of-all")[0] in (200, 308), path
    assert ask(fleet, "/healthz")[0] != 401
    # Evidence may have tokens of its own, so these reach further in; no name and no existence is told there.
    for path in (
        "/api/events",
        "/evidence/0",
        "/evidence/",
        "/p/evidence/",
        "/p/nobody/evidence/0",
        "/alertmanager/api/events",
    ):
        for body in (None, b"{}"):
            status, said, headers = ask(fleet, path, body=body)
            assert (status, "Location" in headers) == (401, False), path
            assert not {"shop", "news"} & set(re.findall(r"\w+", said)), path
    fleet.stop()


def test_nothing_to_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no configuration is here; add a file"):
        Fleet([tmp_path], ManualClock(START))
    write(tmp_path, "shop", lambda _text: "pipeline: [")
    with pytest.raises(ConfigError, match=r"shop\.yml"):
        Fleet([tmp_path], ManualClock(START))


# -- apart from each other -------------------------------------------------------------------------


def test_metrics_of_two_pipelines_do_not_mix(fleet: Fleet) -> None:
    """Both have a dataset of the same name, and one state."""
    tick(fleet, "shop")
    runs = series(fleet, "recwatch_check_last_run_timestamp_seconds")
    assert set(runs) == {"shop"}
    tick(fleet, "news")
    text = ask(fleet, "/metrics")[1]
    for family in ("recwatch_check_good", "recwatch_series", "recwatch_leader", "recwatch_build_info"):
        assert set(series(fleet, family)) == {"news", "shop"}, family
        assert text.count(f"# TYPE {family} ") == 1
    rows = [row.split(" ")[0] for row in text.splitlines() if row and not row.startswith("#")]
    assert len(rows) == len(set(rows)), "no series stands there twice"
    assert sum(row.startswith("process_resident_memory_bytes") for row in rows) == 1


def test_pages_of_two_pipelines_do_not_mix(fleet: Fleet) -> None:
    fleet.workers.scheduler.start(paused=True)
    tick(fleet, "news", "shop")
    proof = judge_bad(fleet, "shop")
    front = ask(fleet, "/")[1]
    assert 'href="p/shop/"' in front
    assert front.index("p/shop/") < front.index("p/news/"), "the worst first"
    states = {name: json.loads(ask(fleet, f"/p/{name}/api/status")[1]) for name in ("shop", "news")}
    assert {name: told["pipeline"] for name, told in states.items()} == {"shop": "shop", "news": "news"}
    assert states["shop"]["state"] == "bad"
    assert states["news"]["state"] != "bad"
    assert ask(fleet, "/p/shop")[0] == 308
    assert ask(fleet, "/p/shop")[2]["Location"] == "/p/shop/"
    assert 'href="../../"' in ask(fleet, "/p/shop/")[1]
    assert ask(fleet, "/p/shop/check", "dataset=events&check=contract")[0] == 200
    assert ask(fleet, f"/p/shop/evidence/{proof}")[0] == 200
    assert ask(fleet, f"/p/news/evidence/{proof}")[0] == 404
    assert ask(fleet, f"/evidence/{proof}")[0] == 200, "a link in a message needs no pipeline"
    assert ask(fleet, "/p/other/")[0] == 404
    assert series_of(fleet, "/p/news/metrics") == {"news"}


def series_of(fleet: Fleet, path: str) -> set[str]:
    text = ask(fleet, path)[1]
    return {row.split('pipeline="')[1].split('"')[0] for row in text.splitlines() if 'pipeline="' in row}


def test_what_is_sent_reaches_the_pipeline_that_is_meant(fleet: Fleet) -> None:
    query = "dataset=events&check=contract"
    code, said, _headers = ask(fleet, "/check", query)
    assert (code, "/p/NAME/check" in said) == (400, True)
    assert ask(fleet, "/check", f"{query}&pipeline=shop")[0] == 200
    deploy = json.dumps({"text": "v2", "kind": "deploy"}).encode()
    assert ask(fleet, "/api/events", body=deploy, kind="application/json")[0] == 400
    assert ask(fleet, "/p/shop/api/events", body=deploy, kind="application/json")[0] == 200
    changed = {
        row.split('pipeline="')[1].split('"')[0]: float(row.rsplit(" ", 1)[1])
        for row in ask(fleet, "/metrics")[1].splitlines()
        if row.startswith("recwatch_last_change_timestamp_seconds") and 'kind="deploy"' in row
    }
    assert changed == {"news": 0, "shop": START.timestamp()}


def test_alertmanager_is_heard_by_the_pipeline_of_the_alerts(fleet: Fleet) -> None:
    group: dict[str, Any] = {
        "version": "4", "groupKey": "{}", "status": "firing", "receiver": "team", "groupLabels": {},
        "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0, "commonLabels": {},
        "alerts": [{"status": "firing", "labels": {"alertname": "A", "severity": "page"}, "annotations": {},
                    "startsAt": START.isoformat(), "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "1"}],
    }  # fmt: skip
    assert ask(fleet, "/alertmanager/team", body=json.dumps(group).encode())[0] == 400
    group["commonLabels"] = {"pipeline": "news"}
    assert ask(fleet, "/alertmanager/team", body=json.dumps(group).encode())[:2] == (200, "taken\n")
    waiting = series(fleet, "recwatch_notification_queue_length")
    assert waiting == {"news": 1, "shop": 0}
    assert ask(fleet, "/alertmanager/other", body=b"{}")[0] == 404


def test_what_is_nested_too_deep_is_about_nobody(fleet: Fleet) -> None:
    body = b"[" * 200_000
    for path in ("/alertmanager/team", "/p/shop/alertmanager/team", "/p/shop/api/events"):
        assert ask(fleet, path, body=body)[0] == 400


def test_a_state_that_cannot_be_read_hides_no_other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise StateError("the disk is gone")

    monkeypatch.setattr(member(fleet, "news").store, "runs", fail)
    assert series(fleet, "recwatch_pipeline_up") == {"news": 0, "shop": 1}
    found = {line["pipeline"]: line for line in json.loads(ask(fleet, "/api/status")[1])["pipelines"]}
    assert found["news"]["state"] == "error"
    assert "the disk is gone" in found["news"]["problems"][0]
    assert ask(fleet, "/p/shop/")[0] == 200
    assert ask(fleet, "/p/news/")[0] == 503


# -- turns -----------------------------------------------------------------------------------------


def test_pipelines_of_one_warehouse_share_its_queue(folder: Path) -> None:
    engines = "engines: {NAMED: {url: 'sqlite:////tmp/warehouse.db', concurrency: 3}}\n"
    for name, named in (("news", "one"), ("shop", "two")):
        table = (engines.replace("NAMED", named), "table: events")
        write(folder, name, lambda text, table=table: table[0] + text.replace("files: data/events/*.parquet", table[1]))  # type: ignore[misc]
    fleet = Fleet([folder], ManualClock(START))
    shared = [set(lanes(member(fleet, name).live.config).items()) for name in ("news", "shop")]
    assert shared[0] == shared[1]
    assert ("sqlite:////tmp/warehouse.db", 3) in shared[0]
    fleet.stop()


def test_ticks_of_many_are_spread_and_judge_the_same_windows() -> None:
    many = Workers(are_shared=True)
    offsets = [many.offset(f"pipeline-{number}", 5 * MINUTE) for number in range(50)]
    assert offsets == [many.offset(f"pipeline-{number}", 5 * MINUTE) for number in range(50)]
    assert all(timedelta(0) <= offset <= MINUTE for offset in offsets)
    seconds = sorted(offset.total_seconds() for offset in offsets)
    assert max(b - a for a, b in zip([0.0, *seconds], [*seconds, 60.0], strict=True)) < 10
    assert Workers().offset("pipeline-1", 5 * MINUTE) == timedelta(0)


def test_a_pipeline_that_takes_long_to_end_is_no_reason_to_restart_all(
    fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    news, told = member(fleet, "news"), []
    end = news.stop

    def slowly() -> None:
        # Its statement runs on, and the schedule moves meanwhile.
        fleet.clock.move(10 * MINUTE)  # type: ignore[attr-defined]
        fleet._queue_look()
        told.append(fleet.problem())
        end()

    monkeypatch.setattr(news, "stop", slowly)
    fleet.workers.start()
    (folder / "news.yml").unlink()
    fleet.look()
    fleet.look()
    assert told == [None]
    assert names(fleet) == ["shop"]
