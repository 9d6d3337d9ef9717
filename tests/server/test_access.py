"""Passwords and tokens of the server: what they open, what stays open, and what is said to others."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor.access import exposure
from monitor.commands.validate import command as validate
from monitor.config import Config
from monitor.errors import ConfigError
from monitor.load import load
from monitor.server import Server

PASSWORD, TOKEN = "canary-p:ss-wörd", "canary-token-1"
AUTH = {"user": "prometheus", "password": PASSWORD, "token": TOKEN}
GUARDED = ("/", "/metrics", "/api/status", "/check?dataset=events&check=freshness", "/evidence/1", "/nowhere")


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_probes_stay_open_and_all_else_is_closed(serve: Any) -> None:
    server = serve(auth=AUTH)
    assert [ask(server, path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    for path in GUARDED:
        status, headers, body = ask(server, path)
        assert status == 401, path
        assert headers["www-authenticate"] == 'Basic realm="recwatch", charset="UTF-8"'
        assert "canary" not in body + str(headers)
    assert ask(server, "/alertmanager/pager", "POST")[0] == 401
    assert ask(server, "/api/events", "POST")[0] == 401


@pytest.mark.parametrize(
    ("shown", "opens"),
    [
        (basic("prometheus", PASSWORD), True),
        (basic("anybody", TOKEN), True),
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (basic("prometheus", "wrong"), False),
        (basic("Prometheus", PASSWORD), False),
        (basic("prometheus", ""), False),
        (basic("", ""), False),
        (f"Bearer {PASSWORD}", False),
        (f"Bearer {TOKEN}x", False),
        (TOKEN, False),
        ("Bearer", False),
        ("Basic", False),
        ("Basic %%%", False),
        ("Basic " + base64.b64encode(b"\xff\xfe:\x00").decode(), False),
        ("Basic " + "A" * 9_000, False),
        ("Digest x", False),
    ],
)
def test_what_opens_it(serve: Any, shown: str, opens: bool) -> None:
    server = serve(auth=AUTH)
    assert ask(server, "/metrics", Authorization=shown)[0] == (200 if opens else 401)
    # Evidence needs no second secret of those who have the first.
    assert ask(server, "/evidence/1", Authorization=shown)[0] == (404 if opens else 401)


def test_a_token_alone_has_no_empty_password_beside_it(serve: Any) -> None:
    server = serve(auth={"token": TOKEN})
    assert [ask(server, "/", Authorization=basic(*shown))[0] for shown in (("", ""), ("a", ""), ("", "a"))] == [401] * 3
    only_user = serve(auth={"user": "me", "password": PASSWORD})
    assert [ask(only_user, "/", Authorization=shown)[0] for shown in ("Bearer ", basic("me", ""))] == [401] * 2
    assert ask(only_user, "/", Authorization=basic("me", PASSWORD))[0] == 200


def test_a_token_in_the_address_does_not_open_the_server(serve: Any) -> None:
    assert ask(serve(auth=AUTH), f"/metrics?token={TOKEN}")[0] == 401


# -- configuration -------------------------------------------------------------------------------

SHOP = """pipeline: shop
datasets: {events: {files: x.csv, roles: {event_time: at}}}
"""


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:{port}", True),
        ("localhost:{port}", True),
        ("LOCALHOST", True),
        ("shop.localhost", True),
        ("[::1]:{port}", True),
        ("recwatch.example.com", True),
        ("recwatch.example.com:8443", True),
        ("rebound.example.net:{port}", False),
        ("127.0.0.1.example.net", False),
        ("localhost.example.net", False),
        ("[::1", False),
        ("0.0.0.0:{port}", False),
    ],
)
def test_a_site_whose_name_means_this_machine_reads_nothing(serve: Any, host: str, is_ours: bool) -> None:
    server = serve(external_url="https://Recwatch.example.com/")
    shown = {"Host": host.format(port=server.port)}
    for path in ("/", "/metrics", "/api/status", "/evidence/1"):
        status, _headers, body = ask(server, path, **shown)
        assert (status == 403) == (not is_ours), body
        assert is_ours or "set notify.external_url" in body
    event = {"Content-Type": "application/json", **shown}
    assert (ask(server, "/api/events", "POST", **event)[0] == 403) == (not is_ours)
    assert ask(server, "/healthz", **shown)[0] == 200, "a probe is told nothing that is worth it"


def test_with_a_password_or_beyond_loopback_any_name_will_do(serve: Any) -> None:
    elsewhere = {"Host": "recwatch.monitoring.svc"}
    assert ask(serve(host="0.0.0.0"), "/metrics", **elsewhere)[0] == 200
    closed = serve(auth={"token": "tok-canary"})
    assert ask(closed, "/metrics", **elsewhere)[0] == 401
    assert ask(closed, "/metrics", Authorization="Bearer tok-canary", **elsewhere)[0] == 200


def said(tmp_path: Path, server: str) -> list[str]:
    path = tmp_path / "recwatch.yml"
    path.write_text(f"{SHOP}server: {server}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {"SECRET": "canary"})
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ("{}", "3:10: server.auth.token: nothing would open the server; set token, or user and password"),
        ("{user: me}", "3:17: server.auth.user: a user and a password need each other; set both, or a token"),
        (
            "{user: 'a:b', password: long enough}",
            "3:17: server.auth.user: must have no colon, which ends a user's name in HTTP; rename it",
        ),
        (
            '{token: "${SECRET}"}',
            "3:17: server.auth.token: must have at least 8 characters; make one: openssl rand -hex 16",
        ),
    ],
)
def test_what_opens_nothing_or_anything_is_refused(tmp_path: Path, auth: str, problem: str) -> None:
    assert said(tmp_path, f"{{auth: {auth}}}") == [problem]


def test_a_secret_in_the_wrong_place_is_not_shown(tmp_path: Path) -> None:
    for auth in ("canary-token-1", "[canary-token-1]", "{tokn: canary-token-1}", "{token: [canary-token-1]}"):
        assert "canary" not in str(said(tmp_path, f"{{auth: {auth}}}"))


@pytest.mark.parametrize(
    ("server", "starts"),
    [
        ({}, None),
        ({"host": "::1"}, None),
        ({"host": "0.0.0.0"}, "server: whoever reaches 0.0.0.0 sees metrics and the status page"),
        ({"host": "0.0.0.0", "auth": AUTH}, "server: passwords and tokens cross the network in the clear"),
        ({"host": "0.0.0.0", "auth": AUTH, "tls": {"cert": "a", "key": "b"}}, None),
    ],
)
def test_what_is_open_to_strangers_is_said(tmp_path: Path, server: dict[str, Any], starts: str | None) -> None:
    datasets = {"events": {"files": "x.csv", "roles": {"event_time": "at"}}}
    found = exposure(Config.model_validate({"datasets": datasets, "server": server}).server)
    assert found is None if starts is None else str(found).startswith(starts)


def test_validate_warns(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text(f"{SHOP}server: {{host: 0.0.0.0}}\n")
    done = CliRunner().invoke(validate, ["-c", str(path)])
    assert done.exit_code == 0
    assert "note: server: whoever reaches 0.0.0.0 sees metrics and the status page" in done.output


def test_validate_warns_of_passwords_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text(f"""{SHOP}
channels:
  hook: {{type: webhook, url: "http://ann:canary@hooks.svc/x"}}
  open: {{type: webhook, url: "http://hooks.svc/x@y"}}
  broken: {{type: webhook, url: "http://[::1"}}
  near: {{type: webhook, url: "http://ann:canary@localhost/x"}}
  am: {{type: alertmanager, urls: ["https://ann:canary@a.svc", "HTTP://ann:canary@b.svc"]}}
notify: {{heartbeat: {{url: "http://:canary@beat.svc", every: 1m}}}}
streams:
  password: {{prometheus: "http://ann:canary@prometheus:9090", query: up}}
  token: {{prometheus: "http://prometheus:9090", query: up, token: canary}}
  plain: {{prometheus: "http://prometheus:9090", query: up}}
""")
    done = CliRunner().invoke(validate, ["-c", str(path), "--json"])
    notes = json.loads(done.output)["notes"]
    warned = [note.partition(" sends ")[0] for note in notes if "in the clear; write https://" in note]
    assert warned == ["channel hook", "channel am", "notify.heartbeat", "stream password", "stream token"]
    assert "canary" not in done.output
