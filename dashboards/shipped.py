"""The dashboards as they are shipped: JSON files, written to a folder or pushed to a Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alerts.notifier import DeliveryError

FOLDER = Path(__file__).parent / "generated"
# Data sources named by object came with 8.3, what else the files use with 11.0.
MINIMUM_GRAFANA = "11.0"
FOLDER_UID = "recwatch"
# A folder of this uid is there already; which of the two it is depends on Grafana's version.
IS_THERE = ("answered 409", "answered 412")
PROVISIONING = """\
# Grafana reads this at its start from /etc/grafana/provisioning/dashboards.
# Point path at the folder with the JSON files, as Grafana sees it.
apiVersion: 1
providers:
  - name: recwatch
    folder: recwatch
    type: file
    allowUiUpdates: false
    updateIntervalSeconds: 60
    options:
      path: /var/lib/grafana/dashboards/recwatch
"""
SOURCE = """\
# Grafana reads this at its start from /etc/grafana/provisioning/datasources; leave it out if it knows Prometheus.
apiVersion: 1
datasources:
  - name: Prometheus
    type: prometheus
    access: proxy
    url: http://127.0.0.1:9090
    isDefault: true
    jsonData:
      # As often as Prometheus scrapes the daemon.
      timeInterval: 15s
"""


def boards() -> Iterator[dict[str, Any]]:
    """Yield each dashboard as plain values."""
    for path in sorted(FOLDER.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def write(folder: Path) -> list[Path]:
    """Write dashboards and provisioning files below a folder; return what was written.

    Raises:
        OSError: The folder cannot be written.
    """
    texts = {f"dashboards/{path.name}": path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}
    texts["provisioning/dashboards/recwatch.yml"] = PROVISIONING
    texts["provisioning/datasources/recwatch.yml"] = SOURCE
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def push(grafana_url: str, token: str) -> Iterator[str]:
    """Yield the title of each dashboard once Grafana has taken it; an older one of the same uid is replaced.

    Args:
        grafana_url: Where Grafana is, with the path it is served under.
        token: Of a service account that may write dashboards and folders.

    Raises:
        DeliveryError: Grafana refused, or cannot be reached; neither address nor token is in its text.
    """
    # Loaded here: writing files needs no HTTP.
    from alerts.http import Client

    client, base = Client("grafana"), grafana_url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        client.post(f"{base}/api/folders", {"uid": FOLDER_UID, "title": "recwatch"}, headers)
    except DeliveryError as error:
        if not any(said in str(error) for said in IS_THERE):
            raise
    for board in boards():
        # Without a number of its own Grafana finds it by its uid.
        body = {"dashboard": {**board, "id": None}, "folderUid": FOLDER_UID, "overwrite": True, "message": "recwatch"}
        client.post(f"{base}/api/dashboards/db", body, headers)
        yield str(board["title"])
