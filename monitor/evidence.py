"""Evidence: what an investigator needs of a bad verdict, collected at once, for the data may be gone tomorrow.

Ids of users and events are pseudonyms by a keyed hash, segments of few people are left out, and rows show
allow-listed columns only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, select

from checks.check import Check, Outcome, Verdict
from checks.clipped import clip_cells
from checks.dataset import Dataset, Kind, Role
from checks.feature_drift import FeatureDrift
from checks.fuse import fuse
from checks.measure import Listing, Measure, Row
from checks.rows import PRIVATE_ROLES, Rows
from checks.suspects import SHOWN_ROLES, Suspects, segments
from checks.window import micros, moment
from monitor import log, queries, schema
from monitor.causes import strain
from monitor.clock import Clock
from monitor.engine import Session
from monitor.errors import RecwatchError
from monitor.explain import readable
from monitor.records import Judged, dump, when
from monitor.reporter import Reporter
from monitor.resolve import Resolver
from monitor.runner import Runner, Task, said
from monitor.store import Store

MOST_SUBJECTS, MOST_SEGMENTS, MOST_COLUMNS = 3, 10, 8
KEY = "evidence-key"
# Older evidence is about another incident.
FRESH = timedelta(days=1)
GOOD_EVERY, GOOD_APART = timedelta(days=1), timedelta(minutes=1)


@dataclass(frozen=True)
class Evidence:
    """One piece, as it is kept.

    Args:
        id: Its address.
        dataset: Which dataset.
        check: Id of the check.
        subject: Entity, feature or source that it is about.
        at: When it was collected.
        body: Verdict, counts, segments, sample and statements, as JSON can hold them.
    """

    id: str
    dataset: str
    check: str
    subject: Mapping[str, str]
    at: datetime
    body: Mapping[str, Any]


class Collector:
    """Collects evidence about what a runner has judged.

    Args:
        runner: Who judged; its engines are asked.
        store: Where evidence is kept.
        clock: Tells when it was collected.
    """

    def __init__(self, runner: Runner, store: Store, clock: Clock) -> None:
        self._runner, self._store, self._clock = runner, store, clock
        self._config = runner.pipeline.config.evidence
        self._key = b""
        self._normal_at: datetime | None = None
        self._reporter = Reporter(runner, store, clock)

    def close(self) -> None:
        """End a report that is being made."""
        self._reporter.close()

    def after(self, judged: Judged) -> list[str]:
        """Collect evidence about the verdicts of a run; return its ids. Never raises: evidence is extra.

        Cost:
            For each of the worst bad subjects a scan for each segment column and one for the sample, at most once in
            ``evidence.every``; for each good one the former, once a day and one a minute.
        """
        if not self._config.enabled:
            return []
        waits = {Outcome.BAD: self._config.every, Outcome.GOOD: GOOD_EVERY}
        bad, good = ([one for one in judged.verdicts if one.outcome is outcome and one.is_whole] for outcome in waits)
        ids = []
        # The worst ones first; what is normal is looked at once a day, to hold the bad against.
        for verdict in (*sorted(bad, key=strain, reverse=True)[:MOST_SUBJECTS], *good):
            try:
                newest, now = self._newest(verdict), self._clock.now()
                is_due = newest is None or now - newest >= waits[verdict.outcome]
                if is_due and (verdict.outcome is Outcome.BAD or self._has_time(now)):
                    ids.append(self._keep(verdict, self._collected(verdict), now))
                    if verdict.outcome is Outcome.BAD and verdict.check == FeatureDrift.id and self._config.reports:
                        self._reporter.begin(ids[-1], verdict)
            except RecwatchError as error:
                log.error("evidence_failed", check=verdict.check, dataset=verdict.dataset, error=error)
            except Exception as error:
                log.error("evidence_failed", check=verdict.check, dataset=verdict.dataset, error=said(error))
        return ids

    def _newest(self, verdict: Verdict) -> datetime | None:
        """Return when evidence about the subject of a verdict that ended so was last collected."""
        about = {
            "pipeline": self._store.pipeline, "dataset": verdict.dataset, "check_id": verdict.check,
            "subject": dump(verdict.subject), "outcome": verdict.outcome.value,
        }  # fmt: skip
        with self._store.reading() as connection:
            return when(connection.execute(queries.NEWEST_EVIDENCE, queries.key(about)).scalar())

    def _has_time(self, now: datetime) -> bool:
        """Return whether to look at what is normal now: a start must not set off a scan for every subject at once."""
        if self._normal_at is not None and now - self._normal_at < GOOD_APART:
            return False
        self._normal_at = now
        return True

    def _keep(self, verdict: Verdict, body: Mapping[str, Any], now: datetime) -> str:
        found = secrets.token_hex(8)
        row = {
            "id": found, "pipeline": self._store.pipeline, "dataset": verdict.dataset, "check_id": verdict.check,
            "subject": dump(verdict.subject), "outcome": verdict.outcome.value,
            "at_us": micros(now), "body": dump(body),
        }  # fmt: skip
        with self._store.writing() as connection:
            connection.execute(schema.evidence.insert().values(row))
        return found

    def _collected(self, verdict: Verdict) -> dict[str, Any]:
        check = next(found for found in self._runner.pipeline.checks[verdict.dataset] if found.id == verdict.check)
        with ExitStack() as stack:
            resolver = Resolver(self._runner.pipeline, stack)
            dataset = self._runner.describe(resolver, verdict.dataset, [Task(check, verdict.window)])
            session, rows = resolver.session(verdict.dataset, verdict.window), Rows(dataset, verdict.window)
            baseline = self._store.baseline(verdict.dataset, verdict.check, verdict.window)
            suspects = check.suspects(rows, verdict, baseline)
            asked = list(check.measures(rows, baseline))
            statements = _compiled(session, asked)
            body = {**_said(verdict, check), "statements": statements}
            if suspects is not None:
                body |= self._about_rows(session, suspects, with_sample=verdict.outcome is Outcome.BAD)
        return body

    def _about_rows(self, session: Session, suspects: Suspects, *, with_sample: bool) -> dict[str, Any]:
        dataset = suspects.rows.dataset
        whole = next(iter(_run(session, suspects.whole())), ("", 0, 0, 0, 0))
        counted = {column: _run(session, suspects.by(column)) for column in self._segment_columns(dataset)}
        found = segments(counted, whole, self._config.min_group)
        shown = self._shown_columns(dataset)
        most = self._config.sample_rows if with_sample else 0
        sample = _run(session, suspects.sample(shown, most)) if most else ()
        return {
            "what": suspects.what,
            "rows": int(whole[1]),
            "bad": int(whole[2] or 0),
            "segments": [asdict(one) for one in found if one.excess > 0][:MOST_SEGMENTS],
            "by_column": {
                column: [asdict(one) for one in found if one.column == column][:MOST_SEGMENTS] for column in counted
            },
            "columns": shown,
            "sample": [self._pseudonymised(dataset, shown, row) for row in sample],
        }

    def _segment_columns(self, dataset: Dataset) -> list[str]:
        """Return columns to count by: what is configured, event type, source, and up to a bound features of text."""
        roles = [dataset.roles[role] for role in (Role.EVENT_TYPE, Role.SOURCE) if role in dataset.roles]
        asked = dict.fromkeys((*self._config.segments, *roles))
        words = [name for name in dataset.features if _is_word(dataset, name) and name not in asked]
        named = (*asked, *words[: max(0, MOST_COLUMNS - len(asked))])
        ids = {dataset.roles[role] for role in (*PRIVATE_ROLES, Role.ITEM) if role in dataset.roles}
        return [name for name in named if name in dataset.columns and name not in ids]

    def _shown_columns(self, dataset: Dataset) -> list[str]:
        roles = [dataset.roles[role] for role in SHOWN_ROLES if role in dataset.roles]
        return [name for name in dict.fromkeys((*roles, *self._config.columns)) if name in dataset.columns]

    def _pseudonymised(self, dataset: Dataset, columns: Sequence[str], row: Row) -> list[str | None]:
        hashed = {dataset.roles[role] for role in PRIVATE_ROLES if role in dataset.roles}
        return [
            pseudonym(self._secret(), cell) if name in hashed and cell not in (None, "") else cell
            for name, cell in zip(columns, row, strict=True)
        ]

    def _secret(self) -> bytes:
        """Return the key of the pseudonyms: the configured one, or one that is made once."""
        if not self._key:
            own = self._config.key.get_secret_value()
            kept = own or self._store.note(KEY)
            if not kept:
                kept = secrets.token_hex(32)
                self._store.set_note(KEY, kept)
            self._key = str(kept).encode()
        return self._key


def pseudonym(key: bytes, value: object) -> str:
    """Return what stands for an id: the same for the same id, and of no use without the key.

    Examples:
        >>> pseudonym(b"k", "u-17") == pseudonym(b"k", "u-17"), pseudonym(b"k", "u-17") == pseudonym(b"j", "u-17")
        (True, False)
    """
    return "#" + hmac.new(key, str(value).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]


def _is_word(dataset: Dataset, name: str) -> bool:
    return name in dataset.columns and dataset.columns[name].kind in (Kind.TEXT, Kind.BOOLEAN)


def _said(verdict: Verdict, check: Check[Any]) -> dict[str, Any]:
    return {
        "check": verdict.check, "dataset": verdict.dataset, "subject": verdict.subject,
        "outcome": verdict.outcome.value,
        "window": [verdict.window.start.isoformat(), verdict.window.end.isoformat()],
        "measure": verdict.measure, "value": verdict.value, "limit": verdict.limit,
        "good": verdict.good, "total": verdict.total, "reason": verdict.reason,
        "details": dict(verdict.details), "formula": check.formula,
    }  # fmt: skip


def _run(session: Session, listing: Listing) -> Sequence[Row]:
    return clip_cells(session.run(listing.statement, listing.row_limit, f"evidence ({listing.name})"))


def _compiled(session: Session, parts: Sequence[Measure | Listing]) -> list[str]:
    """Return what the check itself asked, as the engine got it."""
    scans = [scan.statement for scan in fuse([part for part in parts if isinstance(part, Measure)])]
    listings = [part.statement for part in parts if isinstance(part, Listing)]
    return [readable(session.engine.compile(statement)) for statement in (*scans, *listings)]


# -- reading ---------------------------------------------------------------------------------


def latest(store: Store, verdict: Verdict) -> Evidence | None:
    """Return the newest evidence about the subject of a verdict from when it was bad."""
    table = schema.evidence
    about = and_(
        table.c.dataset == verdict.dataset, table.c.check_id == verdict.check,
        table.c.subject == dump(verdict.subject), table.c.outcome == Outcome.BAD.value,
    )  # fmt: skip
    return next(_load(store, about, 1), None)


def recent(store: Store, since: datetime) -> dict[tuple[str, str, str], str]:
    """Return the id of the newest evidence of what was bad, by dataset, check and subject, from after a time."""
    table = schema.evidence
    is_bad = table.c.outcome == Outcome.BAD.value
    here = and_(table.c.pipeline == store.pipeline, table.c.at_us > micros(since), is_bad)
    statement = select(table.c.dataset, table.c.check_id, table.c.subject, table.c.id).where(here)
    with store.reading() as connection:
        rows = connection.execute(statement.order_by(table.c.at_us)).all()
    return {(row.dataset, row.check_id, " ".join(json.loads(row.subject).values())): row.id for row in rows}


def find(store: Store, name: str) -> Evidence | None:
    """Return a piece by its id."""
    return next(_load(store, schema.evidence.c.id == name, 1), None)


def _load(store: Store, about: Any, most: int) -> Iterator[Evidence]:
    table = schema.evidence
    statement = select(table).where(table.c.pipeline == store.pipeline, about)
    with store.reading() as connection:
        rows = connection.execute(statement.order_by(table.c.at_us.desc()).limit(most)).all()
    for row in rows:
        yield Evidence(
            row.id, row.dataset, row.check_id, json.loads(row.subject), moment(row.at_us), json.loads(row.body)
        )


def prune(store: Store, before: datetime) -> None:
    """Forget evidence, and reports about it, from before a time."""
    with store.writing() as connection:
        for table in (schema.evidence, schema.reports):
            old = and_(table.c.pipeline == store.pipeline, table.c.at_us < micros(before))
            connection.execute(table.delete().where(old))
