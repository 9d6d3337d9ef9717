"""HTTPS: connections that are encrypted, and a certificate that is read again when its files change."""

from __future__ import annotations

import errno
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitor import log
from monitor.config_server import TlsConfig
from monitor.connections import Channel, Listener
from monitor.errors import ConfigError


class Certificate:
    """The server's certificate, as its files are now.

    Args:
        config: Where the files are.

    Raises:
        ConfigError: They cannot be read, or do not belong together.
    """

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._seen = self._stamps()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return what to greet a client with; a new certificate counts from the next connection on.

        One that cannot be used changes nothing: the old one stays, and the log says why.
        """
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._context = self._load()
                log.event("certificate_read", cert=self._config.cert)
            except ConfigError as error:
                log.error("certificate_refused_old_one_stays", error=error)
        return self._context

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return by what a change of the files is seen; linked ones, as Kubernetes mounts them, are followed."""
        found: list[tuple[int, int, int] | None] = []
        for name in (self._config.cert, self._config.key):
            try:
                stat = Path(name).stat()
                found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
            except OSError:
                found.append(None)
        return tuple(found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslsocket_class = _EncryptedSocket
        for key, name in (("cert", self._config.cert), ("key", self._config.key)):
            try:
                Path(name).read_bytes()
            except OSError as error:
                why = (error.strerror or type(error).__name__).lower()
                raise ConfigError(
                    [f"server.tls.{key}: {name}: cannot be read: {why}; check its path and rights"]
                ) from None
        try:
            # An empty passphrase, so that an encrypted key is refused and not asked for on a terminal.
            context.load_cert_chain(self._config.cert, self._config.key, password="")
        except (ssl.SSLError, ValueError, OSError) as error:
            why = getattr(error, "reason", None) or "no PEM"
            says = f"{self._config.cert} and {self._config.key} cannot be used together: {str(why).lower()}"
            raise ConfigError(
                [f"server.tls: {says}; give a certificate and its key, both in PEM, the key without a passphrase"]
            ) from None
        return context


class _NothingYetError(Exception):
    """Nothing can be read yet, though something came."""


class _EncryptedSocket(ssl.SSLSocket):
    """A socket that closes itself when its client has gone already: who wraps it has nothing yet to close."""

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, "its client has gone already") from error


class EncryptedChannel(Channel):
    """A connection by TLS. No step of it waits for the client, so that one cannot keep the others waiting."""

    def __init__(self, server: EncryptedListener, sock: Any, *args: Any, **more: Any) -> None:
        sock.setblocking(False)
        # Worker threads send while the loop reads, and one TLS connection is not made for two threads.
        self._one_at_a_time = threading.Lock()
        self._is_greeting, self._has_to_write = True, False
        context = server.certificate.context()
        super().__init__(
            server, context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), *args, **more
        )

    def readable(self) -> bool:
        """Return whether to wait for bytes; part of waitress."""
        return bool(super().readable()) and not self._has_to_write

    def writable(self) -> bool:
        """Return whether to wait until bytes can be sent; part of waitress."""
        return self._has_to_write or bool(super().writable())

    def handle_read(self) -> None:
        """Take what came; part of waitress."""
        if self._is_greeting:
            self._greet()
            return
        try:
            super().handle_read()
        except _NothingYetError:
            return

    def handle_write(self) -> None:
        """Send what waits; part of waitress."""
        if self._is_greeting and not self.will_close:
            self._greet()
        else:
            super().handle_write()

    def handle_close(self) -> None:
        """Close; part of waitress. A thread that sends ends first: later bytes would leave unencrypted."""
        with self.outbuf_lock:
            super().handle_close()

    def recv(self, buffer_size: int) -> bytes:
        """Return bytes of the client; part of waitress."""
        try:
            with self._one_at_a_time:
                found: bytes = self.socket.recv(buffer_size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise _NothingYetError from None
        if not found:
            self.handle_close()
        return found

    def send(self, chunk: bytes, do_close: bool = True) -> int:
        """Send bytes and return how many went; part of waitress."""
        try:
            with self._one_at_a_time:
                return int(self.socket.send(chunk))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _greet(self) -> None:
        """Take the handshake one step further; whoever cannot agree on one is left."""
        self._has_to_write = False
        try:
            self.socket.do_handshake()
            self._is_greeting = False
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._has_to_write = True
        except OSError:
            self.handle_close()


class EncryptedListener(Listener):
    """A listening socket whose connections are encrypted."""

    channel_class = EncryptedChannel
    certificate: Certificate

    def handle_accept(self) -> None:
        """Take a connection; part of waitress. One that its client has reset already ends nothing but itself."""
        with suppress(OSError):
            super().handle_accept()
