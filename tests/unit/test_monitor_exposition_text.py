"""Scrapes: what is written here is what prometheus-client would write, byte for byte."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from math import inf, nan
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as some
from prometheus_client import CollectorRegistry, PlatformCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from checks.metrics import Kind
from checks.metrics import Metric as MadeMetric
from monitor.exposition_text import Scrapes, family_of, number, spell
from monitor.series import label_value

TEXTS = ("web", "", 'quote " and \\ and \n line', "ünïcode 日本", "\u202e", "a" * 500)
NUMBERS = (0, 1, -1, 7, 999_999, 1_000_000, 123_456_789, 0.1, 1e-9, 1.5e300, inf, -inf, nan, True, 2**63)
OPEN_METRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
ACCEPTED = ("", "text/plain", OPEN_METRICS, "text/plain;version=1.0.0;escaping=allow-utf-8")


GAUGE = MadeMetric("recwatch_made", Kind.GAUGE, "", (), 'Help with \\ and\nline and "quotes".')
COUNTER = MadeMetric("recwatch_counted_total", Kind.COUNTER, "", (), "Counted.")
EMPTY = MadeMetric("recwatch_empty", Kind.GAUGE, "", (), "Nobody there.")
VALUES: list[tuple[MadeMetric, list[tuple[dict[str, str], float]]]] = [
    (GAUGE, [({"source": text, "dataset": str(n)}, n) for text in TEXTS for n in NUMBERS]),
    (COUNTER, [*(({"source": text}, 5) for text in TEXTS), ({}, 1)]),
    (EMPTY, []),
]


def made() -> Iterator[tuple[MadeMetric, list[str]]]:
    """Two metrics of every label and number, and one without a sample."""
    for metric, values in VALUES:
        yield (
            metric,
            [f"{spell(metric.name, labels.items())} {number(value)}\n" for labels, value in values],
        )


class Made(Collector):
    """The same for the library."""

    def collect(self) -> Iterator[Metric]:
        for metric, values in VALUES:
            family = family_of(metric)
            for labels, value in values:
                family.add_sample(metric.name, {name: label_value(text) for name, text in labels.items()}, value)
            yield family

    def describe(self) -> Iterator[Metric]:
        return self.collect()


def of_library(accepted: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(Made())
    return choose_encoder(accepted)[0](registry)


@pytest.mark.parametrize("accepted", ACCEPTED)
def test_it_writes_what_the_library_writes(accepted: str) -> None:
    scrapes = Scrapes(made)
    for _again in range(2):
        status, body, headers = scrapes.answer({"HTTP_ACCEPT": accepted})
        assert status == "200 OK"
        assert dict(headers)["Content-Type"] == choose_encoder(accepted)[1]
        assert body.startswith(of_library(accepted).removesuffix(b"# EOF\n"))
    assert b"python_gc_objects_collected_total" in body, "and the process' own figures after it"
    assert body.endswith(b"# EOF\n") == (accepted == OPEN_METRICS)


@given(some.floats() | some.integers(-(2**70), 2**70))
def test_numbers_are_written_as_the_library_writes_them(value: float) -> None:
    assert number(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


NAMES = some.sampled_from(("pipeline", "dataset", "source", "feature"))


@given(some.dictionaries(NAMES, some.text(max_size=200)), some.randoms())
def test_what_is_spelt_is_read_back_whatever_is_in_it(labels: dict[str, str], chance: Random) -> None:
    items = list(labels.items())
    text = f"recwatch_made {number(1)}\n" if not items else f"{spell('recwatch_made', items)} {number(1)}\n"
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {name: label_value(text) for name, text in items}
    chance.shuffle(items)
    assert spell("recwatch_made", items) == spell("recwatch_made", labels.items()), "whatever their order"


def test_it_is_small_for_who_can_unpack_it() -> None:
    _status, body, headers = Scrapes(made).answer({"HTTP_ACCEPT_ENCODING": "gzip, deflate"})
    assert dict(headers)["Content-Encoding"] == "gzip"
    assert gzip.decompress(body).startswith(of_library(""))


@pytest.mark.parametrize("accepted", ACCEPTED)
@pytest.mark.parametrize(
    "names", [["recwatch_counted_total"], ["recwatch_made", "python_info"], ["recwatch_empty"], ["nobody"]]
)
def test_names_can_be_asked_for(names: list[str], accepted: str) -> None:
    asked = urlencode([("name[]", name) for name in names])
    _status, body, _headers = Scrapes(made).answer({"QUERY_STRING": asked, "HTTP_ACCEPT": accepted})
    registry = CollectorRegistry()
    registry.register(Made())
    PlatformCollector(registry=registry)
    expected: Any = registry.restricted_registry(names)
    assert sorted(body.splitlines()) == sorted(choose_encoder(accepted)[0](expected).splitlines())
    assert (b"recwatch_counted_total{" in body) == ("recwatch_counted_total" in names)
