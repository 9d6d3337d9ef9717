"""Who may see what the server shows: everybody, those with its password or token, or those with evidence's token."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from monitor.config_server import AuthConfig, ServerConfig

# What probes ask, which have no secrets; the answers tell no more than whether the daemon is well.
OPEN = ("/healthz", "/readyz")
_BASIC, _BEARER = 'Basic realm="recwatch", charset="UTF-8"', "Bearer"


class Denied(NamedTuple):
    """Why somebody may not see something.

    Args:
        status: Of the response.
        said: In words, with what to do.
        challenge: What the client may show, for ``WWW-Authenticate``; empty where nothing helps.
    """

    status: str
    said: str
    challenge: str = ""


def denied(
    server: ServerConfig, token: str, path: str, environ: Mapping[str, Any], known: Sequence[str] = (),
    is_evidence: bool = False,
) -> Denied | None:  # fmt: skip
    """Return why a request is refused, or None if it may pass.

    Where ``server.auth`` is set, it opens everything. ``evidence.token`` opens evidence alone. Without either, all but
    evidence is open, and evidence too on loopback: whoever is on the machine may read the state anyway.

    Args:
        server: As it is bound.
        token: What opens evidence; empty if nothing does.
        path: What is asked for.
        environ: Of WSGI.
        known: Addresses by which people reach the server through a proxy.
        is_evidence: Whether it is about rows of the data, or changes what is told about them.
    """
    auth = server.auth
    if path in OPEN or (auth is not None and _opens(auth, environ)):
        return None
    if auth is None and is_loopback(server.host) and _is_astray(environ, known):
        says = (
            "the name in Host is not this machine's; set notify.external_url to where people reach it, or server.auth"
        )
        return Denied("403 Forbidden", says)
    if is_evidence and token:
        if any(_same(shown, token) for shown in (_bearer(environ), *_in_query(environ))):
            return None
        return Denied("401 Unauthorized", "show the token: Authorization: Bearer TOKEN, or ?token=TOKEN", _BEARER)
    if auth is not None:
        basic = "the user and password" if auth.user else "the token as a password"
        return Denied("401 Unauthorized", f"show {basic}, or Authorization: Bearer TOKEN", _BASIC)
    if is_evidence and not is_loopback(server.host):
        says = "the server is not on loopback; set evidence.token or server.auth to show evidence"
        return Denied("403 Forbidden", says)
    return None


def _is_astray(environ: Mapping[str, Any], known: Sequence[str]) -> bool:
    """Return whether a browser was led here: a site whose name suddenly means this machine may read what is open."""
    asked = environ.get("HTTP_HOST")
    if not asked:
        return False
    host = host_of(f"//{asked}")
    return not (is_loopback(host) or host.endswith(".localhost") or host in map(host_of, filter(None, known)))


def host_of(address: str) -> str:
    """Return the host of an address; empty where it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _opens(auth: AuthConfig, environ: Mapping[str, Any]) -> bool:
    """Return whether a request shows the server's password or token."""
    user, password = _basic(environ)
    own_password, token = auth.password.get_secret_value(), auth.token.get_secret_value()
    # All are compared, each in constant time, so that none can be found out letter by letter.
    by_user = bool(auth.user) & _same(user, auth.user) & _same(password, own_password)
    by_token = bool(token) & (_same(_bearer(environ), token) | _same(password, token))
    return bool(by_user | by_token)


def _header(environ: Mapping[str, Any], scheme: str) -> bytes:
    # Headers come as Latin-1, whatever bytes were sent.
    sent = str(environ.get("HTTP_AUTHORIZATION", "")).encode("latin-1", "replace")
    start, _, rest = sent.partition(b" ")
    return rest.strip() if start.lower() == scheme.encode() else b""


def _bearer(environ: Mapping[str, Any]) -> bytes:
    return _header(environ, "bearer")


def _basic(environ: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return the user and the password of a request; empty if it has none, or not in that form."""
    try:
        user, _, password = base64.b64decode(_header(environ, "basic"), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b"", b""
    return user, password


def _in_query(environ: Mapping[str, Any]) -> list[bytes]:
    asked = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [])
    return [shown.encode("utf-8", "replace") for shown in asked]


def _same(shown: bytes, secret: str) -> bool:
    return hmac.compare_digest(shown, secret.encode())


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from its own machine alone.

    Examples:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_in_the_clear(address: str) -> bool:
    """Return whether what is sent to an address can be read on the way: over HTTP, to another machine."""
    return address.lower().startswith("http://") and not is_loopback(host_of(address))


def exposure(server: ServerConfig) -> str | None:
    """Return what strangers can see or read along, or None if nobody but this machine and those with a secret can."""
    if is_loopback(server.host):
        return None
    if server.auth is None:
        return (
            f"server: whoever reaches {server.host or 'this machine'} sees metrics and the status page, without a"
            " password; set server.auth, or bind 127.0.0.1"
        )
    if server.tls is None:
        says = "server: passwords and tokens cross the network in the clear"
        return f"{says}; set server.tls, or put a proxy with TLS in front"
    return None
