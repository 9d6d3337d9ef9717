"""The dashboards as they are shipped: JSON files, written to a folder or pushed to a Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "generated"
# Data sources named by object came with 8.3, what else the files use with 11.0.
MINIMUM_GRAFANA = "11.0"
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
