"""The answer to a scrape: heads by prometheus-client, lines by what was spelt before.

prometheus-client spells every label anew at each scrape, which is most of its time with thousands of series.
Here the spelling of a series is kept, and all else is left to the library: formats, help and types, and series of
the process.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from checks.metrics import PIPELINE, Kind, Metric
from monitor.series import label_value

Headers = list[tuple[str, str]]
# Each metric with its lines, complete but for its head.
Lines = Iterable[tuple[Metric, Sequence[str]]]
EOF = b"# EOF\n"
# What saves most of the bytes at a tenth of the time.
FAST = 1


class Scrapes:
    """Answers scrapes.

    Args:
        lines: Returns the lines of the state, as they are now.
    """

    def __init__(self, lines: Callable[[], Lines]) -> None:
        self._lines, self._own = lines, with_own_figures(CollectorRegistry())

    def answer(self, environ: Mapping[str, Any]) -> tuple[str, bytes, Headers]:
        """Return status, body and headers; with ``name[]`` in the address, of the metrics named there alone.

        Raises:
            StateError: The state cannot be read.

        Cost:
            About 2 us a series.
        """
        names = parse_qs(str(environ.get("QUERY_STRING", ""))).get("name[]", [])
        accepted = str(environ.get("HTTP_ACCEPT", ""))
        encode, content_type = choose_encoder(accepted)
        parts: list[str] = []
        for metric, lines in self._lines():
            if not names or (lines and metric.name in names):
                parts.append(head(accepted, metric.name, metric.kind, metric.help))
                parts.extend(lines)
        own: Any = self._own.restricted_registry(names) if names else self._own
        body = "".join(parts).encode() + encode(own)
        headers = [("Content-Type", content_type)]
        if "gzip" in str(environ.get("HTTP_ACCEPT_ENCODING", "")):
            return "200 OK", gzip.compress(body, FAST), [*headers, ("Content-Encoding", "gzip")]
        return "200 OK", body, headers


def with_own_figures(found: CollectorRegistry) -> CollectorRegistry:
    """Return a registry with the process' own figures added."""
    ProcessCollector(registry=found)
    PlatformCollector(registry=found)
    GCCollector(registry=found)
    return found


def family_of(metric: Metric) -> Family:
    """Return the family of a metric, without samples."""
    family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    return family(metric.name, metric.help, labels=(PIPELINE, *metric.labels))


@lru_cache(maxsize=1_000)
def head(accepted: str, name: str, kind: Kind, meaning: str) -> str:
    """Return the lines above the series of a metric, in the format that is asked for."""
    encode, _content_type = choose_encoder(accepted)
    family = CollectorRegistry()
    family.register(_Empty(family_of(Metric(name, kind, "", (), meaning))))
    return encode(family).removesuffix(EOF).decode()


class _Empty(Collector):
    """A family without samples."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return [self._family]


def spell(metric: str, labels: Iterable[tuple[str, str]]) -> str:
    r"""Return a series as the text formats write it: its name and its labels, in the order of their names.

    Equal labels in another order are the same text, so the text is the identity of a series. Names are of our own list
    and need no escape; values are cut as ``label_value`` does.

    Examples:
        >>> print(spell("up", [("source", 'the "new" app'), ("dataset", "events")]))
        up{dataset="events",source="the \"new\" app"}
    """
    written = ",".join(f'{name}="{_escaped(label_value(text))}"' for name, text in sorted(labels))
    return f"{metric}{{{written}}}" if written else metric


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """Return a value as the text formats write it, which up to a million is as Python does."""
    return repr(float(value)) if -1e6 < value < 1e6 else str(floatToGoString(value))  # type: ignore[no-untyped-call]
