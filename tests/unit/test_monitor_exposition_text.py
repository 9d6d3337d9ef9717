"""Scrapes: what is written here is what prometheus-client would write, byte for byte."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from math import inf, nan
from wsgiref.util import setup_testing_defaults

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from monitor.exposition_text import Scrapes

TEXTS = ("web", "", 'quote " and \\ and \n line', "ünïcode 日本", "\u202e", "a" * 500)
NUMBERS = (0, 1, -1, 7, 999_999, 1_000_000, 123_456_789, 0.1, 1e-9, 1.5e300, inf, -inf, nan, True, 2**63)
OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
ACCEPTED = ("", "text/plain", OPEN_METRICS, "text/plain;version=1.0.0;escaping=allow-utf-8")


class Made(Collector):
    """Two families of every label and number, and one without a sample."""

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("recwatch_made", 'Help with \\ and\nline and "quotes".')
        counter = CounterMetricFamily("recwatch_counted_total", "Counted.")
        for text in TEXTS:
            for number in NUMBERS:
                gauge.add_sample("recwatch_made", {"source": text, "dataset": str(number)}, number)
        for text in TEXTS:
            counter.add_sample("recwatch_counted_total", {"source": text}, 5)
        counter.add_sample("recwatch_counted_total", {}, 1)
        yield from (gauge, counter, GaugeMetricFamily("recwatch_empty", "Nobody there."))

    def describe(self) -> Iterator[Metric]:
        return self.collect()


def of_library(accepted: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(Made())
    return choose_encoder(accepted)[0](registry)


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_it_writes_what_the_library_writes(accepted: str) -> None:
    scrapes = Scrapes(Made())
    for _again in range(2):
        status, body, headers = scrapes.answer({"HTTP_ACCEPT": accepted})
        assert status == "200 OK"
        assert dict(headers)["Content-Type"] == choose_encoder(accepted)[1]
        assert body.startswith(of_library(accepted).removesuffix(b"# EOF\n"))
    assert b"python_gc_objects_collected_total" in body, "and the process' own figures after it"
    assert body.endswith(b"# EOF\n") == (accepted == OPEN_METRICS)


def test_it_is_small_for_who_can_unpack_it() -> None:
    _status, body, headers = Scrapes(Made()).answer({"HTTP_ACCEPT_ENCODING": "gzip, deflate"})
    assert dict(headers)["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).startswith(of_library(""))


def test_names_can_be_asked_for() -> None:
    environ = {"QUERY_STRING": "name[]=recwatch_counted_total"}
    setup_testing_defaults(environ)
    _status, body, _headers = Scrapes(Made()).answer(environ)
    families: Iterable[Metric] = text_string_to_metric_families(body.decode())
    assert {family.name for family in families} == {"recwatch_counted"}
    registry = CollectorRegistry()
    registry.register(Made())
    assert body == generate_latest(registry.restricted_registry(["recwatch_counted_total"]))
