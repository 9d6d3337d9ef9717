"""Prometheus as a source: any PromQL as counts by step, or as a signal of the present."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.util import parse_url

from alerts.http import basic, pools
from alerts.notifier import unreached
from checks.window import MICROSECOND, Window, micros
from monitor.config_streams import StreamConfig
from monitor.errors import EngineError
from monitor.streams.rows import Row, bounds

LARGEST_ANSWER = 10_000_000
MOST_SERIES = 100
# More than this, and an infinity, is just very much: JSON has no infinity.
VERY_MUCH = 1e300
LONGEST_MESSAGE = 300


class Prometheus:
    """One query of a Prometheus, or of what speaks its HTTP API.

    Args:
        name: Its name in the configuration.
        config: Address, query and credentials.
    """

    def __init__(self, name: str, config: StreamConfig) -> None:
        self.name = name
        self._config = config
        self._pool = pools(config.timeout.total_seconds())

    def read(self, reading: str, span: Window) -> list[Row]:
        """Return the rows of a span.

        A count stands at the start of its step, evaluated at its end; a value stands where it was evaluated:
        at the end of the span, and every step before.

        Raises:
            EngineError: It cannot be reached, refuses the query, or answers too much.
        """
        step = self._config.step // MICROSECOND
        edges = bounds(self.name, span, self._config.step)
        if reading == "count":
            first, last, back = edges[1], edges[-1], step
        else:
            # Prometheus rounds to milliseconds, up as well, which would be past the end.
            last = micros(span.end) // 1_000 * 1_000
            first, back = last - (max(1, (last - micros(span.start)) // step) - 1) * step, 1
        rows = []
        for series in self._series(first, last, step):
            source = series["metric"].get(self._config.source_label)
            if "values" not in series:
                raise EngineError(
                    f"stream {self.name}: the query has histograms, not numbers; take histogram_count or"
                    " histogram_quantile of it"
                )
            for at_seconds, text in series["values"]:
                value = _finite(float(text))
                if value is not None:
                    at = round(float(at_seconds) * 1_000_000) - back
                    rows.append(Row(at, source, max(0, round(value)) if reading == "count" else value))
        return rows

    def probe(self) -> None:
        """Evaluate the query once, long ago, where it costs nothing.

        Raises:
            EngineError: It cannot be reached, or refuses the query.
        """
        self._series(0, 0, 1_000_000)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _series(self, first_us: int, last_us: int, step_us: int) -> list[dict[str, Any]]:
        asked = {
            "query": self._config.query or "", "start": f"{first_us / 1e6:.6f}", "end": f"{last_us / 1e6:.6f}",
            "step": f"{step_us / 1e6:g}", "timeout": f"{self._config.timeout.total_seconds():g}s",
        }  # fmt: skip
        found = self._asked(asked)
        if len(found) > MOST_SERIES:
            raise EngineError(
                f"stream {self.name}: the query has {len(found):,} series, at most {MOST_SERIES} are read;"
                f" aggregate it, such as sum by ({self._config.source_label}) (...)"
            )
        return found

    def _asked(self, asked: Mapping[str, str]) -> list[dict[str, Any]]:
        where, headers = self._address()
        try:
            response = self._pool.request(
                "POST", f"{where}/api/v1/query_range", body=urlencode(asked), headers=headers, redirect=False,
                preload_content=False,
            )  # fmt: skip
            body = response.read(LARGEST_ANSWER + 1, decode_content=True)
            response.drain_conn() if len(body) <= LARGEST_ANSWER else response.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Its text holds the address, which may hold a password.
            what = f"Prometheus is not reached ({unreached(error)}); check its URL and the network"
            raise EngineError(f"stream {self.name}: {what}", unreachable=True) from None
        if len(body) > LARGEST_ANSWER:
            raise EngineError(f"stream {self.name}: the answer is larger than 10 MB; aggregate the query")
        try:
            told = json.loads(body)
            if told["status"] == "success" and response.status == 200:
                found: list[dict[str, Any]] = told["data"]["result"]
                return found
            message = " ".join(str(told["error"]).split())[:LONGEST_MESSAGE]
        except (ValueError, KeyError, TypeError):
            message = "not as a Prometheus does; check its URL and the credentials"
            raise EngineError(f"stream {self.name}: answered {response.status}, {message}") from None
        raise EngineError(f"stream {self.name}: Prometheus refuses the query: {message}; mend the query")

    def _address(self) -> tuple[str, dict[str, str]]:
        """Return the address without credentials, and the headers that carry them."""
        address = self._config.prometheus.get_secret_value() if self._config.prometheus else ""
        form = "application/x-www-form-urlencoded"
        headers = {"user-agent": "recwatch", "content-type": form, **basic(address)}
        token = self._config.token.get_secret_value()
        if token:
            headers["authorization"] = f"Bearer {token}"
        return parse_url(address)._replace(auth=None, query=None, fragment=None).url.rstrip("/"), headers


def _finite(value: float) -> float | None:
    """Return a value as JSON can hold it; None for what is no number, such as 0 / 0."""
    return None if math.isnan(value) else max(-VERY_MUCH, min(VERY_MUCH, value))
