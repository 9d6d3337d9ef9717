"""The Kafka client is an extra: without it all else runs, and who needs it is told."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from checks.window import Window
from monitor import crosscheck_streams
from monitor.config import Config
from monitor.crosscheck import crosscheck
from monitor.errors import EngineError
from monitor.resolve import build

CONFIG = Config.model_validate(
    {
        "streams": {"clicks": {"kafka": "127.0.0.1:1", "topic": "clicks"}},
        "datasets": {
            "events": {"files": "events.parquet", "roles": {"event_time": "at"}, "sent": "sent"},
            "sent": {"stream": "clicks"},
        },
    }
)


def test_whoever_names_a_topic_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck_streams, "find_spec", lambda _name: None)
    (problem,) = crosscheck(CONFIG)
    assert problem.where == ("streams", "clicks", "kafka")
    assert (problem.rule, problem.todo) == (
        "needs the package confluent-kafka, which is not installed",
        "install recwatch[kafka]",
    )


def test_a_client_that_went_missing_later_is_an_error_of_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    now, says = datetime.now(UTC), r"stream clicks: needs the package confluent-kafka.*recwatch\[kafka\]"
    with closing(build(CONFIG)) as pipeline, pytest.raises(EngineError, match=says):
        pipeline.streams["clicks"].read("count", Window(now - timedelta(minutes=1), now))


def test_the_daemon_loads_no_client_unless_a_topic_is_read() -> None:
    code = "import sys, monitor.daemon, monitor.cli; sys.exit('confluent_kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
