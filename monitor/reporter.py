"""Reports about drift alarms: made beside the daemon, one at a time, and kept with the evidence."""

from __future__ import annotations

import gzip
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from checks.check import Verdict
from checks.window import micros
from monitor import log, schema
from monitor.clock import Clock
from monitor.errors import RecwatchError
from monitor.report import Asked, is_there, write
from monitor.runner import Runner
from monitor.store import Store

# Evidently takes some ten seconds for so many rows.
SAMPLE_ROWS = 5_000
# A sample that is being read when the daemon ends gets so long to be let go of.
LONGEST_GOODBYE_SECONDS = 5.0


class Reporter:
    """Makes a report about one piece of evidence at a time; while one is made, others are left out.

    Args:
        runner: Its engines are asked for samples.
        store: Where reports are kept.
        clock: Tells when one was made.
    """

    def __init__(self, runner: Runner, store: Store, clock: Clock) -> None:
        self._runner, self._store, self._clock = runner, store, clock
        self._busy = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def begin(self, evidence: str, verdict: Verdict) -> bool:
        """Begin a report about a drift verdict; return whether one is being made now."""
        saved = self._store.saved_baseline(verdict.dataset, verdict.check)
        if saved is None or not is_there() or not self._busy.acquire(blocking=False):
            return False
        asked = Asked(verdict.dataset, verdict.window, saved.window, sample_rows=SAMPLE_ROWS)
        self._thread = threading.Thread(target=self._make, args=(evidence, asked), name="report", daemon=True)
        self._thread.start()
        return True

    def close(self) -> None:
        """End the report that is being made, if there is one."""
        self._is_closed = True
        if self._child is not None:
            self._child.kill()
        if self._thread is not None:
            self._thread.join(LONGEST_GOODBYE_SECONDS)

    def _started(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        if self._is_closed:
            child.kill()

    def _make(self, evidence: str, asked: Asked) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="recwatch-report-") as folder:
                out = Path(folder) / "report.html"
                write(self._runner, asked, out, self._started)
                row = {
                    "evidence": evidence, "pipeline": self._store.pipeline, "at_us": micros(self._clock.now()),
                    "html": gzip.compress(out.read_bytes()),
                }  # fmt: skip
                with self._store.writing() as connection:
                    connection.execute(schema.reports.insert().values(row))
        except RecwatchError as error:
            if not self._is_closed:
                log.error("report_failed", dataset=asked.dataset, error=error)
        except Exception as error:
            with suppress(Exception):
                log.error("report_failed", dataset=asked.dataset, error=type(error).__name__)
        finally:
            self._child = None
            self._busy.release()


def find(store: Store, evidence: str) -> bytes | None:
    """Return the HTML of the report about a piece of evidence, or None if there is none."""
    table = schema.reports
    statement = select(table.c.html).where(table.c.pipeline == store.pipeline, table.c.evidence == evidence)
    with store.reading() as connection:
        found = connection.execute(statement).scalar()
    return None if found is None else gzip.decompress(found)
