"""HTTPS with real clients: what is agreed on, what is refused, rotation, and clients that stall."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.config_server import ServerConfig
from monitor.errors import ConfigError
from monitor.load import load
from monitor.server import Server


def ask(server: Server, context: ssl.SSLContext, path: str = "/healthz") -> tuple[int, bytes, dict[str, Any]]:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        assert isinstance(connection.sock, ssl.SSLSocket)
        peer: Any = connection.sock.getpeercert()
        answer = connection.getresponse()
        return answer.status, answer.read(), peer
    finally:
        connection.close()


def trusting(tls: dict[str, str]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=tls["cert"])


def test_https_is_answered_to_those_who_trust_the_certificate(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server = serve(tls=tls)
    assert server.url.startswith("https://127.0.0.1:")
    assert ask(server, trusting(tls))[:2] == (200, b"ok\n")
    status, body, _peer = ask(server, trusting(tls), "/")
    assert (status, b"<h1>" in body) == (200, True)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, ssl.create_default_context())


@pytest.mark.parametrize(("version", "works"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_tls_1_2_is_the_least(serve: Any, certify: Any, version: str, works: bool) -> None:
    tls = certify("first")
    context = trusting(tls)
    with pytest.warns(DeprecationWarning, match="TLS") if not works else contextlib.nullcontext():
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion[version]
    server = serve(tls=tls)
    if works:
        assert ask(server, context)[0] == 200
    else:
        with pytest.raises(OSError):
            ask(server, context)


def test_plain_http_and_noise_are_hung_up_on(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server = serve(tls=tls)
    for sent in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\x00" * 300, b"\x00" * 50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(sent)
            with contextlib.suppress(ConnectionResetError):
                assert b"recwatch" not in connection.recv(1000)
    assert ask(server, trusting(tls))[0] == 200


def test_a_long_answer_and_a_long_request_arrive_whole(certify: Any) -> None:
    tls, body = certify("first"), bytes(range(256)) * 20_000
    got: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        got.append(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = Server(ServerConfig.model_validate({"port": 0, "tls": tls}), app)
    server.start()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=trusting(tls))
    for _ in range(3):
        connection.request("POST", "/", body[:1_500_000])
        assert connection.getresponse().read() == body
    connection.close()
    server.close()
    assert got == [body[:1_500_000]] * 3


def test_several_requests_in_one_record_are_all_answered(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server = serve(tls=tls)
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with trusting(tls).wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
        said = b""
        while said.count(b"ok\n") < 5:
            more = connection.recv(4096)
            assert more, said
            said += more


def test_a_new_certificate_counts_without_a_restart(serve: Any, certify: Any) -> None:
    old = certify("first")
    server = serve(tls=old)
    before = ask(server, trusting(old))[2]
    new = certify("second")
    after = ask(server, trusting(new))[2]
    assert before["subject"] != after["subject"]
    Path(new["key"]).write_text("half written")
    context = ssl.create_default_context(cafile=new["cert"])
    assert ask(server, context)[2] == after, "one that cannot be used changes nothing"


def test_those_who_do_not_finish_the_handshake_keep_nobody_waiting(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server = serve(tls=tls)
    stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(150)]
    for connection in stalled[::2]:
        with contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x01\x02")
    started = time.monotonic()
    assert ask(server, trusting(tls))[0] == 200
    assert time.monotonic() - started < 5
    for connection in stalled:
        connection.close()


def test_clients_that_reset_their_connection_at_once_end_nothing(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server = serve(tls=tls)
    for _ in range(200):
        client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    assert ask(server, trusting(tls))[0] == 200


def test_many_clients_at_once(serve: Any, certify: Any) -> None:
    tls = certify("first")
    server, context, answers = serve(tls=tls), trusting(tls), []
    threads = [threading.Thread(target=lambda: answers.append(ask(server, context, "/metrics")[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 20


# -- wrong certificates --------------------------------------------------------------------------


def refused(tls: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        Server(ServerConfig.model_validate({"port": 0, "tls": tls}), lambda *_: [])
    return str(caught.value)


def test_what_is_wrong_with_a_certificate_is_said(certify: Any, tmp_path: Path) -> None:
    tls = certify("first")
    missing = str(tmp_path / "none.pem")
    assert refused({**tls, "key": missing}) == (
        f"server.tls.key: {missing}: cannot be read: no such file or directory; check its path and rights"
    )
    noise = tmp_path / "noise.pem"
    noise.write_text("nonsense")
    for wrong in ({**tls, "cert": str(noise)}, {"cert": tls["key"], "key": tls["cert"]}):
        assert "cannot be used together" in refused(wrong)
        assert "; give a certificate and its key, both in PEM, the key without a passphrase" in refused(wrong)
    locked = tmp_path / "locked.key"
    openssl = shutil.which("openssl") or ""
    subprocess.run(
        [openssl, "ec", "-aes256", "-passout", "pass:secret", "-in", tls["key"], "-out", locked],
        check=True, capture_output=True,
    )  # fmt: skip
    assert "cannot be used together" in refused({**tls, "key": str(locked)})


def test_paths_start_at_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    events = "events: {files: x.csv, roles: {event_time: at}}"
    path.write_text(f"datasets: {{{events}}}\nserver: {{tls: {{cert: tls/a.crt, key: /b.key}}}}\n")
    found = load(path, {}).server.tls
    assert found is not None
    assert (found.cert, found.key) == (str(tmp_path / "tls/a.crt"), "/b.key")


# -- Prometheus ----------------------------------------------------------------------------------


def test_prometheus_scrapes_over_https_with_a_password(serve: Any, certify: Any, tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not here")
    tls, auth = certify("first"), {"user": "prometheus", "password": "a password", "token": "a-token-of-ours"}
    server = serve(tls=tls, auth=auth)
    targets = {"static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}], "scheme": "https"}
    ways: dict[str, Any] = {
        "basic": {"basic_auth": {"username": "prometheus", "password": "a password"}},
        "bearer": {"authorization": {"credentials": "a-token-of-ours"}},
        "wrong": {"basic_auth": {"username": "prometheus", "password": "wrong"}},
        "stranger": {},
    }
    jobs = [{"job_name": name, "tls_config": {"ca_file": tls["cert"]}, **targets, **way} for name, way in ways.items()]
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = subprocess.Popen(
        [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        up = _scraped(f"http://127.0.0.1:{port}/api/v1/query?query=up", len(ways))
    finally:
        running.terminate()
        running.wait(20)
    assert up == {"basic": "1", "bearer": "1", "wrong": "0", "stranger": "0"}


def _scraped(url: str, most: int) -> dict[str, str]:
    deadline = time.monotonic() + 60
    found: dict[str, str] = {}
    while len(found) < most and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(url, timeout=5) as answer:
                result = json.load(answer)["data"]["result"]
            found = {one["metric"]["job"]: one["value"][1] for one in result}
        threading.Event().wait(0.3)
    return found
