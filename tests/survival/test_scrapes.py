"""Scrapes while the configuration is read again, again and again: each is answered, with all series."""

from __future__ import annotations

import threading
import urllib.request
from typing import Any

from monitor.server import serve


def test_each_scrape_during_reloads_is_whole(shop: Any) -> None:
    shop.write(range(4))
    daemon = shop.daemon(4)
    shop.tick()
    daemon._scheduler.start(paused=True)
    server, stop, answers = serve(daemon), threading.Event(), list[str]()

    def scrape() -> None:
        while not stop.is_set():
            with urllib.request.urlopen(f"{server.url}metrics", timeout=30) as answer:
                answers.append(answer.read().decode())

    scrapers = [threading.Thread(target=scrape) for _one in range(2)]
    for scraper in scrapers:
        scraper.start()
    for _reload in range(5):
        daemon.reload()
        assert daemon.reload_state.problem is None
    stop.set()
    for scraper in scrapers:
        scraper.join()
    server.close()
    daemon._scheduler.shutdown()
    assert len(answers) >= 2
    for answer in answers:
        assert 'recwatch_contract_rows_total{dataset="events",pipeline="shop",result="valid"}' in answer
        assert answer.count("# TYPE recwatch_") == answers[0].count("# TYPE recwatch_")
