"""Builds baselines: references that freeze bins, rankings and contracts, and past windows for bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from checks.check import Check
from checks.window import Window
from monitor.errors import EngineError
from monitor.records import Judged, SavedBaseline
from monitor.runner import Runner
from monitor.store import Store

# Most past windows that a build reads for one check; the newest are kept.
MOST_WINDOWS = 2_000


@dataclass(frozen=True)
class Built:
    """What became of the baseline of one check on one dataset."""

    dataset: str
    check: str
    windows: int = 0
    reference: bool = False
    problem: str | None = None


class Builder:
    """Builds baselines of a pipeline into its store.

    Args:
        runner: Asks the engines.
        store: Where baselines are kept.
        progress: Called with (done, total, what) before each step.
    """

    def __init__(self, runner: Runner, store: Store, progress: Callable[[int, int, str], None] | None = None) -> None:
        self._runner, self._store = runner, store
        self._progress = progress or (lambda _done, _total, _what: None)

    def build(self, span: Window | None, only: Sequence[str] = (), *, pinned: bool = False) -> list[Built]:
        """Build the baselines of every check over a span of history.

        Args:
            span: Which history; the windows to be judged later should not lie in it. None takes what the daemon does.
            only: Check ids; all if empty.
            pinned: Whether references stay as they are until they are built again by hand.

        Returns:
            One line for each check that has a baseline of either kind.
        """
        now, length = self._runner.clock.now(), self._runner.pipeline.config.baselines.span
        steps = [
            (dataset, check, span or reference_span(check, now - check.settings.settle, length))
            for dataset, checks in self._runner.pipeline.checks.items()
            for check in checks
            if (check.has_reference or check.history) and (not only or check.id in only)
        ]
        work = [(dataset, check, of, self._missing(dataset, check, of)) for dataset, check, of in steps]
        total = sum(len(windows) + check.has_reference for _dataset, check, _of, windows in work)
        done, built = 0, []
        for dataset, check, of, windows in work:
            what = f"{check.id} on {dataset}"
            self._progress(done, total, what)
            found = Built(dataset, check.id)
            if check.has_reference:
                found = self.build_reference(dataset, check, of, pinned=pinned)
                done += 1
            for kept, problem in self._replay(dataset, check, windows, of):
                self._progress(done, total, what)
                done += 1
                found = replace(found, windows=found.windows + kept, problem=found.problem or problem)
            # What cannot run here was not asked for, unless by name.
            if only or (dataset, check.id) not in self._runner.disabled:
                built.append(found)
        self._progress(total, total, "")
        return built

    def build_reference(self, dataset: str, check: Check[Any], span: Window, *, pinned: bool) -> Built:
        """Read a reference and keep it; a problem is returned, not raised."""
        try:
            frozen, reference = self._runner.learn(dataset, check, span)
        except EngineError as error:
            return Built(dataset, check.id, problem=str(error))
        now = self._runner.clock.now()
        self._store.save_baseline(SavedBaseline(dataset, check.id, span, now, pinned, frozen, reference))
        return Built(dataset, check.id, reference=True)

    def _missing(self, dataset: str, check: Check[Any], span: Window) -> list[Window]:
        """Return the windows of a span that a band needs and the store does not have."""
        if not check.history:
            return []
        cadence = check.settings.cadence
        windows: list[Window] = []
        window = replace(cadence, settle=timedelta()).newest(span.end)
        while window.start >= span.start and len(windows) < MOST_WINDOWS:
            windows.append(window)
            window = Window(window.start - cadence.every, window.end - cadence.every)
        kept = self._store.window_ends(dataset, check.id, span)
        return [window for window in reversed(windows) if window.end not in kept]

    def _replay(
        self, dataset: str, check: Check[Any], windows: Sequence[Window], span: Window
    ) -> Iterator[tuple[int, str | None]]:
        """Judge past windows and keep their figures, without counting anything.

        Empty windows before the first rows and after the last ones are no history: nobody was watching, or nothing
        was there yet. Between rows they are, if a check has a figure of them: no rows have a number, and no density.

        Yields:
            After each window, how many more are kept, and what is wrong.
        """
        waiting, found = list[Judged](), False
        for window in windows:
            kept = 0
            for judged in self._runner.run(dataset, [(check, window)]):
                if judged.failed:
                    yield 0, judged.verdicts[0].reason
                    return
                figures = judged.figures.values()
                if any(figure is not None for figure in figures):
                    waiting.append(replace(judged, increments=(), gauges=(), advances=False))
                if any(figures):
                    past = waiting if found else waiting[-1:]
                    for one in past:
                        self._store.commit_past(one)
                    kept, waiting, found = len(past), [], True
            is_last = window is windows[-1]
            is_nothing = is_last and not found and not self._store.window_ends(dataset, check.id, span)
            few = f"{'no' if waiting else 'too few'} rows from {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M}"
            yield kept, few if is_nothing else None


def reference_span(check: Check[Any], now: datetime, length: timedelta) -> Window:
    """Return what a reference that is built now is learnt from: the time before the window under test.

    Were it part of the reference, a window of days would be held against itself.
    """
    end = now - check.settings.window
    return Window(end - length, end)


def is_due(saved: SavedBaseline | None, check: Check[Any], now: datetime, refresh: Any) -> bool:
    """Return whether a reference is to be built now, by itself."""
    if not check.has_reference:
        return False
    if saved is None:
        return True
    return check.renews_reference and not saved.pinned and now - saved.built_at >= refresh
