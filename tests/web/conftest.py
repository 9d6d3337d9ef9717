"""A pipeline in trouble: every state that a check can be in, with an hour of history, and hostile names."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from checks.check import Outcome, Verdict
from checks.measure import Tally
from checks.window import Window
from monitor.app import App
from monitor.clock import ManualClock
from monitor.config import Config, ServerConfig
from monitor.records import Judged, SavedBaseline
from monitor.resolve import build
from monitor.runner import Disabled
from monitor.server import Server
from monitor.status import Watched
from monitor.store import Store

NOW = datetime(2026, 3, 3, 14, 5, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOSTILE_SOURCE = "<img src=x onerror=alert(1)>"
HOSTILE_DATASET = 'clicks"><script>alert(1)</script>'
GOOD, BAD, UNKNOWN, ERROR = Outcome.GOOD, Outcome.BAD, Outcome.UNKNOWN, Outcome.ERROR
CHANCE = {"limit_origin": "chance at 11,902 events"}
BAND = {"low": 0.00081, "high": 0.00151, "limit_origin": "median of 12 windows (same hour of the day)"}
TIMED_OUT = "OperationalError: connection to server at postgresql://recwatch:hunter2@warehouse:5432/shop timed out"

ROLES = {
    "event_id": "id", "user": "user_id", "item": "item_id", "event_time": "at", "ingested_at": "seen", "source": "app",
}  # fmt: skip
CONFIG = {
    "pipeline": "shop-recs",
    "datasets": {
        "events": {"files": "events/*.parquet", "roles": ROLES, "features": ["price", "device", "position"]},
        HOSTILE_DATASET: {"files": "clicks/*.parquet", "roles": {"event_time": "at", "item": "item_id"}},
        "nightly": {"files": "nightly.csv", "roles": {"event_time": "at"}, "checks": {"density": {"enabled": False}}},
    },
}
DISABLED = (
    Disabled("popularity", "events", "needs the role item"),
    Disabled("duplicates", HOSTILE_DATASET, "needs the role event_id, or else user"),
    Disabled("unknown_ids", HOSTILE_DATASET, "needs the dataset users or items"),
    Disabled("unknown_ids", "nightly", "needs the role user or item"),
)


@dataclass
class Made:
    """A store full of verdicts, and what is watched."""

    store: Store
    watched: Watched
    now: datetime


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state database, made once."""
    path = tmp_path_factory.mktemp("made") / "state.db"
    store = Store(f"sqlite:///{path}", "shop-recs")
    fill(store)
    store.close()
    return path


@pytest.fixture
def made(filled: Path, tmp_path: Path) -> Iterator[Made]:
    shutil.copy(filled, tmp_path / "state.db")
    yield from make(tmp_path)


@pytest.fixture
def made_fine(made: Made) -> Made:
    """The same pipeline with nothing but freshness, all good."""
    checks = {"events": [check for check in made.watched.checks["events"] if check.id in ("freshness", "ingestion")]}
    others = {
        ("events", check.id): Disabled(check.id, "events", "needs the role item")
        for check in made.watched.checks["events"]
        if check.id not in ("freshness", "ingestion")
    }
    made.watched = replace(made.watched, checks=checks, disabled=others)
    return made


def make(folder: Path) -> Iterator[Made]:
    config = Config.model_validate(CONFIG)
    pipeline = build(config)
    store = Store(f"sqlite:///{folder}/state.db", config.pipeline)
    disabled = {(found.dataset, found.check): found for found in DISABLED}
    yield Made(store, Watched(config, pipeline.checks, disabled, NOW - timedelta(hours=5), slos=pipeline.slos), NOW)
    store.close()
    pipeline.close()


def fill(store: Store) -> None:
    last = NOW.replace(second=0) - MINUTE
    windows = [Window(last - (60 - n) * MINUTE, last - (59 - n) * MINUTE) for n in range(60)]
    for n, window in enumerate(windows):
        for verdicts in events(n, window):
            commit(store, verdicts)
        if n > 40:
            reason = "nobody counts sends, and fewer than 8 past windows of this length tell the usual volume"
            commit(store, [Found("ingestion", HOSTILE_DATASET, window).unknown("rows", 12_345.0, None, reason)])
        if n == 20:
            commit(
                store, [Found("freshness", "nightly", window).good("lag_seconds", 31.0, 300.0, "newest is 31 s old")]
            )
    for dataset, check in (("events", "density"), ("nightly", "contract")):
        commit(store, [Found(check, dataset, windows[-1]).error(TIMED_OUT)], advances=False)
    span = Window(NOW - timedelta(days=7), NOW - timedelta(hours=3))
    for check in ("contract", "feature_drift"):
        saved = SavedBaseline("events", check, span, span.end, check == "contract", {}, Tally("events", span))
        store.save_baseline(saved)


def commit(store: Store, verdicts: Sequence[Verdict], *, advances: bool = True) -> None:
    first = verdicts[0]
    finished = first.window.end + timedelta(seconds=59)
    tally = Tally(first.dataset, first.window) if advances else None
    store.commit(Judged(first.check, first.dataset, first.window, verdicts, finished, 0.123, tally, advances=advances))


@dataclass(frozen=True)
class Found:
    """Makes verdicts of one check on one window."""

    check: str
    dataset: str
    window: Window

    def judged(self, is_bad: bool, measure: str, value: float, limit: float, reason: str, **more: Any) -> Verdict:
        outcome = BAD if is_bad else GOOD
        return Verdict(self.check, self.dataset, self.window, outcome, measure, value, limit, reason=reason, **more)

    def good(self, *rest: Any, **more: Any) -> Verdict:
        return self.judged(False, *rest, **more)

    def unknown(self, measure: str, value: float, limit: float | None, reason: str, **more: Any) -> Verdict:
        return Verdict(self.check, self.dataset, self.window, UNKNOWN, measure, value, limit, reason=reason, **more)

    def error(self, reason: str) -> Verdict:
        return Verdict(self.check, self.dataset, self.window, ERROR, "none", reason=reason)


def wave(n: int, low: float, high: float) -> float:
    return low + (high - low) * (0.5 + 0.35 * math.sin(n / 17 * math.tau) + 0.15 * math.sin(n * 2.3))


def events(n: int, window: Window) -> Iterator[list[Verdict]]:
    """Yield what each check finds on the events in minute n: at 48 an iOS release drops user ids."""
    broken = n >= 48
    yield freshness(Found("freshness", "events", window), wave(n, 4, 31))
    of = Found("ingestion", "events", window)
    said = "11,902 of 11,905 landed well; 3 rejected"
    yield [of.good("failed_ratio", wave(n, 0.0001, 0.0008), 0.0012, said, details=CHANCE)]
    of = Found("contract", "events", window)
    said = "columns added: experiment_bucket_assignment; new event_type values: add_to_wishlist_from_search"
    yield [
        of.good("invalid_ratio", 0.0, 0.001, "every row is valid"),
        of.judged(True, "changes", 2.0, 0.0, said, feature="schema"),
    ]
    yield unknown_ids(Found("unknown_ids", "events", window), n, broken)
    yield duplicates(Found("duplicates", "events", window), n)
    if n % 10 == 0:
        said = "8,211 cells of 2,311 users and 3,010 items"
        yield [Found("density", "events", window).good("density", wave(n, 0.001, 0.0013), 0.00151, said, details=BAND)]
    if n % 5 == 4:
        of = Found("feature_drift", "events", window)
        moved = "largest change: null from 0.0 % to 31.2 %"
        psi = 0.34 if broken else wave(n, 0.001, 0.02)
        yield [
            of.good("psi", wave(n, 0.001, 0.01), 0.1, "largest change: 10 to 20 from 5.0 % to 5.4 %", feature="price"),
            of.good("psi", wave(n, 0.001, 0.02), 0.1, "largest change: ios from 38.1 % to 39.4 %", feature="device"),
            of.judged(broken, "psi", psi, 0.1, moved, feature="position"),
        ]


def freshness(of: Found, lag: float) -> list[Verdict]:
    def said(seconds: float) -> str:
        return f"newest event is {seconds:.0f} s old"

    rare = "newest event is 21.0 min old; too rare to expect one within the limit"
    return [
        of.good("lag_seconds", lag, 300.0, said(lag)),
        of.good("lag_seconds", lag, 300.0, said(lag), source="ios"),
        of.good("lag_seconds", lag + 2, 300.0, said(lag + 2), source="android"),
        of.unknown("lag_seconds", 1260.0, 300.0, rare, source=HOSTILE_SOURCE),
    ]


def unknown_ids(of: Found, n: int, broken: bool) -> list[Verdict]:
    name, share = "unknown_ratio", 0.31 + wave(n, 0, 0.03) if broken else wave(n, 0.002, 0.006)
    on_ios = 0.78 if broken else 0.004
    user = f"{100 * share:.3g} % of events: missing {12_000 * share:,.0f}"
    return [
        of.good(name, wave(n, 0.001, 0.003), 0.0121, "0.2 % of events: unknown 24", entity="item", details=CHANCE),
        of.judged(broken, name, share, 0.0121, user, entity="user", details=CHANCE),
        of.judged(broken, name, on_ios, 0.013, f"{100 * on_ios:.3g} % of events", entity="user", source="ios"),
        of.good(name, 0.004, 0.013, "0.4 % of events: missing 22", entity="user", source="android"),
        of.good(name, 0.003, 0.013, "0.3 % of events: missing 9", entity="user", source="web"),
        of.good(name, 0.002, 0.013, "0.2 % of events: unknown 8", entity="item", source="ios"),
    ]


def duplicates(of: Found, n: int) -> list[Verdict]:
    if 30 <= n < 36:
        return [of.error("engine files timed out after 30 s")]
    copies = 0.005004 if n == 59 else 0.011 if n in (22, 23, 24) else wave(n, 0.0005, 0.002)
    said = "60 surplus copies of 11,990 rows: same window 41, retry 19"
    again = "0.15 % of rows repeat an act under a new id"
    return [
        of.judged(copies > 0.005, "duplicate_ratio", copies, 0.005, said),
        of.good("semantic_ratio", wave(n, 0.001, 0.002), 0.02, again, feature="semantic"),
    ]


Open = Callable[..., Any]
CHROMIUM = Path("/usr/bin/chromium")
# Every visible text with its colour, and the first opaque background behind it.
CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, said = texts.currentNode.textContent.trim();
    if (!said || !element.checkVisibility() || element.closest("svg, script, style, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    found.push([said, (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def server(made: Any) -> Iterator[Server]:
    app = App(made.store, ManualClock(made.now), lambda: made.watched, lambda: None, lambda: None)
    server = Server(ServerConfig(port=0), app)
    server.start()
    yield server
    server.close()


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Open]:
    """Open the page; the test fails on anything that the browser complains about or asks of others."""
    contexts, complaints = [], []

    def open_page(width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda asked: complaints.append(asked.url) if not is_own(asked.url, server) else None)
        page.goto(server.url)
        return page

    yield open_page
    for context in contexts:
        assert context.cookies() == []
        context.close()
    assert complaints == []


def is_own(url: str, server: Server) -> bool:
    return url.startswith((server.url, "data:"))
