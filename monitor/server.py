"""Serves the application over HTTP, from threads beside the schedule."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from monitor import log
from monitor.access import exposure
from monitor.app import App
from monitor.config_server import ServerConfig
from monitor.connections import MOST_CONNECTIONS, Channel, Listener
from monitor.errors import ConfigError
from monitor.receiver import MOST_BYTES
from monitor.series import series_estimate
from monitor.status import Watched

if TYPE_CHECKING:
    from monitor.daemon import Daemon

# What one client can take up. Only Alertmanager sends a body, and nobody long headers.
_LIMITS: dict[str, Any] = {
    "threads": 4,
    # Never met while there are connections to close instead; both numbers count the listening socket and others.
    "connection_limit": MOST_CONNECTIONS + 20,
    "channel_timeout": 30,
    "max_request_header_size": 16_384,
    "max_request_body_size": MOST_BYTES,
    # Both are in memory as a whole anyway, and there may be no place for temporary files.
    "inbuf_overflow": MOST_BYTES + 1,
    "outbuf_overflow": 64_000_000,
    "recv_bytes": 16_384,
    # Clients that go away are no news.
    "log_socket_errors": False,
    "asyncore_use_poll": True,
    "clear_untrusted_proxy_headers": True,
    "expose_tracebacks": False,
    "ident": "recwatch",
}
_LONGEST_GOODBYE_SECONDS = 5.0


class Server:
    """A bound address, served from the moment of ``start`` to that of ``close``.

    Args:
        config: Address and certificate; port 0 takes a free one.
        app: WSGI application.

    Raises:
        ConfigError: The address cannot be bound, or the certificate not be used.
    """

    def __init__(self, config: ServerConfig, app: Callable[..., Any]) -> None:
        kind, self._scheme = _kind(config)
        listening = _bind(config.host, config.port)
        self.host, self.port = config.host, int(listening.getsockname()[1])
        self._map: dict[int, Any] = {}
        self._server = _listen(kind, listening, app, self._map, self._scheme)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def url(self) -> str:
        """Address of the status page, as one reaches it from this machine."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - told apart, not bound
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, let answers under way finish, and end; safe to call twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._server.pull_trigger()
            self._thread.join()
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._map, ignore_all=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._server.tidy(time.time())
            wasyncore.loop(timeout=1, use_poll=True, map=self._map, count=1)
        wasyncore.dispatcher.close(self._server)
        deadline = time.monotonic() + _LONGEST_GOODBYE_SECONDS
        while self._is_busy() and time.monotonic() < deadline:
            wasyncore.loop(timeout=0.05, use_poll=True, map=self._map, count=1)
        for channel in list(self._server.active_channels.values()):
            channel.handle_close()

    def _is_busy(self) -> bool:
        """Return whether any answer is still being made or sent."""
        channels: list[Channel] = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)


def _kind(config: ServerConfig) -> tuple[type[Listener], str]:
    """Return what listens, and the scheme that it speaks; TLS is loaded only where it is wanted."""
    if config.tls is None:
        return Listener, "http"
    from monitor.tls import Certificate, EncryptedListener

    found = Certificate(config.tls)
    return type("CertifiedListener", (EncryptedListener,), {"certificate": found}), "https"


def _listen(
    kind: type[Listener], listening: socket.socket, app: Callable[..., Any], channels: dict[int, Any], scheme: str
) -> Listener:
    adjustments = Adjustments(sockets=[listening], url_scheme=scheme, **_LIMITS)
    workers = ThreadedTaskDispatcher()
    workers.set_thread_count(adjustments.threads)
    where = (listening.family, listening.type, listening.proto, listening.getsockname())
    return kind(app, channels, _sock=listening, dispatcher=workers, adj=adjustments, sockinfo=where, bind_socket=False)


def _bind(host: str, port: int) -> socket.socket:
    where = f"server: {host}:{port}"
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(
            [f"{where}: no such address: {error.strerror}; set server.host to one of this machine"]
        ) from error
    listening = socket.socket(family, kind, protocol)
    try:
        # A restart must not wait for the old process' connections to time out.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Told here, not at the first connection: two may bind, but only one can listen.
        listening.listen(128)
    except OSError as error:
        listening.close()
        advice = "stop what is there, or set server.port (0 takes a free one)"
        if error.errno == errno.EADDRNOTAVAIL:
            advice = "set server.host to an address of this machine"
        raise ConfigError([f"{where}: cannot be served: {error.strerror}; {advice}"]) from error
    return listening


def app_of(daemon: Daemon, home: str = "") -> App:
    """Return what answers for a daemon; ``home`` is where its pages link to, if anywhere above them."""

    def watched() -> Watched:
        live, read = daemon.live, daemon.reload_state
        disabled = dict(live.runner.disabled)
        return Watched(
            live.config, live.pipeline.checks, disabled, read.succeeded_at, read.problem,
            live.pipeline.slos, daemon.lease.is_held,
        )  # fmt: skip

    return App(daemon.store, daemon.clock, watched, daemon.problem, daemon.pending, home)


def serve(daemon: Daemon) -> Server:
    """Return the server of a daemon, already answering.

    Raises:
        ConfigError: The address cannot be bound, or the configuration can make too many series.
    """
    live = daemon.live
    series_estimate(live.config, live.pipeline.checks)
    server = Server(live.config.server, app_of(daemon))
    server.start()
    warn(live.config.server)
    return server


def warn(config: ServerConfig) -> None:
    """Say loudly what strangers can see."""
    warning = exposure(config)
    if warning is not None:
        log.error("server_is_open", problem=warning)
