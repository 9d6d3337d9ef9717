"""The page of a piece of evidence: who may see it, that it reads well anywhere, and that data stays data."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from checks.window import micros
from monitor import schema
from monitor.access import denied
from monitor.config_server import ServerConfig
from monitor.evidence import Evidence
from monitor.evidence_page import EvidencePage
from monitor.server import Server
from tests.web.conftest import CONTRASTS, HOSTILE_SOURCE, NOW

Open = Callable[..., Any]
NAME = "0123456789abcdef"
BODY = {
    "check": "unknown_ids", "dataset": "events", "subject": {"entity": "user"}, "measure": "unknown_ratio",
    "outcome": "bad",
    "window": ["2026-03-03T14:00:00+00:00", "2026-03-03T14:05:00+00:00"], "value": 0.31, "limit": 0.01, "good": 69,
    "total": 100, "reason": "31 % of events: missing 31", "details": {"causes": {"missing": 31}, "cold": 0,
    "movers": [["7", 0.25]]}, "formula": "bad events / events", "statements": ["SELECT 1\nFROM <b>t</b>"],
    "what": "events whose user id leads nowhere", "rows": 100, "bad": 31,
    "segments": [{"column": "source", "value": HOSTILE_SOURCE, "rows": 40, "bad": 31, "share": 1.0, "lift": 2.5,
                  "excess": 0.6}],
    "by_column": {}, "columns": ["user_id", "app"], "sample": [["#0123456789ab", HOSTILE_SOURCE], [None, "web"]],
}  # fmt: skip


@pytest.fixture
def url(made: Any, server: Server) -> str:
    row = {
        "id": NAME, "pipeline": made.store.pipeline, "dataset": "events", "check_id": "unknown_ids",
        "subject": '{"entity":"user"}', "outcome": "bad", "at_us": micros(NOW), "body": json.dumps(BODY),
    }  # fmt: skip
    with made.store.writing() as connection:
        connection.execute(schema.evidence.insert().values(row))
    return f"{server.url}evidence/{NAME}"


def ask(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_reads_well(scheme: str, width: int, open_page: Open, url: str) -> None:
    page = open_page(width, color_scheme=scheme)
    page.goto(url)
    assert page.inner_text("h1") == "unknown ids of events, entity user"
    assert "31 % of events: missing 31" in page.inner_text("header")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"
    first = page.locator("table").first.locator("tr").nth(1).inner_text()
    assert first.split("\t")[:4] == ["source", HOSTILE_SOURCE, "40", "31"]
    assert min(ratio for _text, ratio in page.evaluate(CONTRASTS)) >= 4.5
    assert page.locator("img, script").count() == 0, "data is text"


@pytest.mark.parametrize(
    ("check", "name", "says"),
    [("contract", "schema", "part schema"), ("duplicates", "semantic", "part semantic"),
     ("feature_drift", "price", "feature price")],
)  # fmt: skip
def test_only_a_column_whose_drift_is_watched_is_called_a_feature(check: str, name: str, says: str) -> None:
    body = {**BODY, "check": check, "subject": {"feature": name}}
    page = EvidencePage().render(Evidence(NAME, "events", check, {"feature": name}, NOW, body))
    assert f"of events, {says}</bdi></h1>" in page


def test_how_often_a_segment_is_bad_is_held_against_all_rows() -> None:
    page = EvidencePage().render(Evidence(NAME, "events", "unknown_ids", {}, NOW, BODY))
    assert "<th>to its share of all rows</th>" in page, "usual is what past windows were"


def test_what_is_missing_is_not_called_a_segment_that_does_not_stand_out() -> None:
    body = {
        **BODY,
        "what": "rows that landed and break the contract",
        "bad": 0,
        "rows": 0,
        "segments": [],
        "sample": [],
    }
    page = EvidencePage().render(Evidence(NAME, "events", "ingestion", {}, NOW, body))
    assert "there are no rows that landed and break the contract. What is missing cannot be looked into" in page
    assert "stands out" not in page


def test_it_is_there_as_json_and_gone_when_it_is_gone(url: str) -> None:
    status, said = ask(f"{url}.json")
    assert (status, json.loads(said)["body"]["bad"]) == (200, 31)
    assert ask(f"{url}0") == (404, "no such evidence; it may have been kept for long enough\n")


def test_a_token_is_asked_for_where_one_is_set(made: Any, url: str) -> None:
    config = made.watched.config
    evidence = config.evidence.model_copy(update={"token": SecretStr("canary-token")})
    made.watched = replace(made.watched, config=config.model_copy(update={"evidence": evidence}))
    assert ask(url)[0] == 401
    assert ask(url, Authorization="Bearer other")[0] == 401
    assert ask(url, Authorization="Bearer canary-token")[0] == 200
    assert ask(f"{url}?token=canary-token")[0] == 200
    assert "canary" not in "".join(ask(url)[1] + ask(f"{url}?token=canary-token")[1])


@pytest.mark.parametrize(
    ("host", "token", "shown", "status"),
    [
        ("127.0.0.1", "", "", None),
        ("::1", "", "", None),
        ("0.0.0.0", "", "", "403"),
        ("10.1.2.3", "", "", "403"),
        ("10.1.2.3", "secret", "", "401"),
        ("10.1.2.3", "secret", "Bearer secret", None),
        ("127.0.0.1", "secret", "Bearer sécret", "401"),
    ],
)
def test_off_loopback_there_is_nothing_without_a_token(host: str, token: str, shown: str, status: str | None) -> None:
    found = denied(ServerConfig(host=host), token, "/evidence/1", {"HTTP_AUTHORIZATION": shown}, is_evidence=True)
    assert (found.status[:3] if found is not None else None) == status


def test_the_status_page_leads_to_it(open_page: Open, url: str) -> None:
    page = open_page()
    links = page.get_by_role("link", name="evidence")
    assert links.count() == 1, "one subject has evidence"
    links.click()
    assert page.url == url
    assert page.inner_text("h1") == "unknown ids of events, entity user"
