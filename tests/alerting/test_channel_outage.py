"""A channel that fails for an hour: nothing is lost, nothing doubled, and the wait is seen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from alerts.message import Alert
from alerts.notifier import DeliveryError, Memory
from monitor import outbox
from monitor.delivery import LONGEST_WAIT_SECONDS, deliver
from monitor.watch import Watch


class Broken:
    """Refuses everything until it is mended."""

    name, kind, rate_per_second, burst = "here", "console", 100.0, 100

    def __init__(self) -> None:
        self.works, self.tries, self.told = False, 0, list[tuple[str, int]]()

    def deliver(self, alert: Alert, memory: Memory) -> None:
        self.tries += 1
        if not self.works:
            raise DeliveryError("here: 503", permanent=False)
        self.told.append((alert.key, alert.transition))


def test_an_hour_without_a_channel_loses_and_doubles_nothing(open_shop: Callable[..., Any]) -> None:
    shop, channel = open_shop(), Broken()
    steps = [(alert.key, alert.transition) for alert in shop.play("+" * 30 + "-" * 30 + "+" * 60)]
    assert len(steps) >= 2
    ends = shop.clock.now() + timedelta(hours=1)
    while shop.clock.now() < ends:
        item = outbox.first(shop.store, "here")
        assert item is not None
        if item.next_at <= shop.clock.now():
            deliver(shop.store, shop.clock, channel, item)
        shop.clock.move(timedelta(seconds=10))
    assert 12 <= channel.tries <= 40, "patient: at most every few minutes in the end"
    assert outbox.lengths(shop.store) == {"here": len(steps)}, "what waits is seen"
    channel.works = True
    shop.clock.move(timedelta(seconds=1.2 * LONGEST_WAIT_SECONDS))
    while (item := outbox.first(shop.store, "here")) is not None:
        assert deliver(shop.store, shop.clock, channel, item) is None
    assert channel.told == steps, "in order, each once"


def test_a_channel_that_is_told_again_and_again_holds_up_an_evaluation_once(open_shop: Callable[..., Any]) -> None:
    both = {"channels": {name: {"type": "console"} for name in ("here", "too")}}
    shop, channel = open_shop(**both, slos={"freshness": {"channels": ["here"]}}), Broken()
    shop.play("+" * 60 + "-" * 20, "unknown_ids")
    shop.play("+" * 60 + "-" * 20)
    assert len(shop.alerting.memory.board.incidents) == 2
    watch = Watch(shop.store, shop.pipeline, shop.clock)
    channel.repeat = timedelta(minutes=1)  # type: ignore[attr-defined]
    watch._notifiers = {"here": channel}
    watch.evaluate()
    assert channel.tries == 1, "each try may take ten seconds, and people wait for what is evaluated after"
    channel.works = True
    shop.clock.move(timedelta(minutes=1))
    watch.evaluate()
    assert len(channel.told) == 2
