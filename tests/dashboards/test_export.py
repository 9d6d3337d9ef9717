"""``recwatch dashboards export``: files that Grafana can be pointed at, and its API, by a fake that knows its rules."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dashboards import shipped
from monitor.commands.dashboards import command

TOKEN = "glsa_canary0token"


class Grafana:
    """As much of Grafana's API as is used: folders, dashboards, tokens."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.dashboards: dict[str, dict[str, Any]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = outer.answer(self.path, asked, self.headers.get("Authorization", ""))
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/grafana/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, path: str, asked: dict[str, Any], who: str) -> tuple[int, dict[str, Any]]:
        if who != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key"}
        if path == "/grafana/api/folders":
            if asked["uid"] in self.folders:
                return 412, {"message": "a folder with the same uid already exists"}
            self.folders.add(asked["uid"])
            return 200, {"uid": asked["uid"]}
        if path != "/grafana/api/dashboards/db":
            return 404, {"message": "Not found"}
        board = asked["dashboard"]
        if asked["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if board["id"] is not None or len(board["uid"]) > 40 or not board["title"]:
            return 400, {"message": "bad dashboard"}
        if board["uid"] in self.dashboards and not asked["overwrite"]:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        self.dashboards[board["uid"]] = board
        return 200, {"uid": board["uid"], "status": "success"}


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    found = Grafana()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_files_with_provisioning(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["export", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"Grafana {shipped.MINIMUM_GRAFANA}" in done.output
    for name in ("recwatch-executive", "recwatch-on-call", "recwatch-debug", "recwatch-slo"):
        written = json.loads((tmp_path / "out" / "dashboards" / f"{name}.json").read_text())
        assert written["uid"] == name
    provider = yaml.safe_load((tmp_path / "out/provisioning/dashboards/recwatch.yml").read_text())["providers"][0]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    source = yaml.safe_load((tmp_path / "out/provisioning/datasources/recwatch.yml").read_text())["datasources"][0]
    assert source["type"] == "prometheus"


def test_pushing_twice_replaces(grafana: Grafana) -> None:
    for _again in range(2):
        done = CliRunner().invoke(
            command, ["export", "--grafana-url", grafana.url], env={"RECWATCH_GRAFANA_TOKEN": TOKEN}
        )
        assert done.exit_code == 0, done.output
        assert "pushed recwatch: on call" in done.output
    assert len(grafana.dashboards) == 4


@pytest.mark.parametrize(
    ("options", "says", "code"),
    [
        ([], "--out DIR, --grafana-url URL, or both", 2),
        (["--grafana-url", "http://127.0.0.1:1"], "needs a token", 2),
        (["--grafana-url", "http://127.0.0.1:1", "--token", TOKEN], "grafana: not reached", 3),
        (["--out", "/proc/nowhere"], "--out /proc/nowhere: ", 2),
    ],
)
def test_what_is_wrong_is_said(
    recwatch: Callable[..., Any], options: list[str], says: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RECWATCH_GRAFANA_TOKEN", raising=False)
    done = recwatch("dashboards", "export", *options)
    assert (done.code, says in done.err) == (code, True)
    assert TOKEN not in done.err


def test_a_wrong_token_is_refused_without_being_shown(grafana: Grafana) -> None:
    done = CliRunner().invoke(command, ["export", "--grafana-url", grafana.url, "--token", "glsa_other"])
    assert done.exit_code == 3
    assert "grafana: answered 401" in done.output
    assert "glsa_other" not in done.output
    assert grafana.dashboards == {}
