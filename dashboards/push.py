"""Puts the shipped dashboards into a Grafana by its HTTP API."""

from __future__ import annotations

from collections.abc import Iterator

from alerts.http import Client
from alerts.notifier import DeliveryError
from dashboards import shipped

FOLDER_UID = "recwatch"
# A folder of this uid is there already; which of the two it is depends on Grafana's version.
IS_THERE = ("answered 409", "answered 412")


def push(grafana_url: str, token: str) -> Iterator[str]:
    """Yield the title of each dashboard once Grafana has taken it; an older one of the same uid is replaced.

    Args:
        grafana_url: Where Grafana is, with the path it is served under.
        token: Of a service account that may write dashboards and folders.

    Raises:
        DeliveryError: Grafana refused, or cannot be reached; neither address nor token is in its text.
    """
    client, base = Client("grafana"), grafana_url.rstrip("/")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        client.post(f"{base}/api/folders", {"uid": FOLDER_UID, "title": "recwatch"}, headers)
    except DeliveryError as error:
        if not any(said in str(error) for said in IS_THERE):
            raise
    for board in shipped.boards():
        # Without a number of its own Grafana finds it by its uid.
        body = {"dashboard": {**board, "id": None}, "folderUid": FOLDER_UID, "overwrite": True, "message": "recwatch"}
        client.post(f"{base}/api/dashboards/db", body, headers)
        yield str(board["title"])
