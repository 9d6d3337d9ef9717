"""Sends alerts by e-mail: one thread for each incident."""

from __future__ import annotations

import hashlib
import io
import json
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape
from typing import ClassVar

from alerts.http import Incoming
from alerts.message import Alert
from alerts.notifier import DeliveryError, Memory, unreached
from alerts.wording import cut, lines, mark, printable

# Servers refuse mails of 10 MB.
LONGEST_SUBJECT, LONGEST_LINE = 200, 2_000
ACCEPTED, FIRST_PASSING, CLOSING, FIRST_PERMANENT = 250, 400, 421, 500
# How often some recipients are tried while others have the mail: for about 20 minutes, longer than greylisting lasts.
MOST_TRIES = 12
MOST_NAMED = 3


class _Timed(smtplib.SMTP):
    """Bounds each reply as a whole: the library bounds each read of it, so that one that drips has no end."""

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply; the library opens the file that it reads anew after STARTTLS."""
        if self.file is None and self.sock is not None:
            self._incoming = Incoming(self.sock.makefile("rb").detach(), self.sock)
            self.file = io.BufferedReader(self._incoming)
        else:
            self._incoming.begin()
        return super().getreply()


class _TimedOverTls(_Timed, smtplib.SMTP_SSL):
    pass


class Mail:
    """Sends each transition as a mail; a repeated one has the same ``Message-ID``.

    Args:
        name: Name of the channel.
        host: SMTP server.
        port: Its port.
        sender: Address it is sent from.
        recipients: Addresses it is sent to.
        username: To log in with; empty for no login.
        password: The password.
        security: ``starttls``, ``tls`` or ``none``.
        timeout_seconds: How long to wait for the server.
    """

    kind: ClassVar[str] = "email"
    rate_per_second: ClassVar[float] = 1.0
    burst: ClassVar[int] = 10

    def __init__(
        self, name: str, *, host: str, port: int, sender: str, recipients: Sequence[str],
        username: str = "", password: str = "", security: str = "starttls", timeout_seconds: float = 15.0,
    ) -> None:  # fmt: skip
        self.name, self._where, self._timeout_seconds = name, (host, port), timeout_seconds
        self._sender, self._recipients = sender, tuple(recipients)
        self._username, self._password, self._security = username, password, security

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Send one transition, once to each recipient: whoever is put off is tried again alone.

        What is only kept quiet waits for the next mail: it would be one more for everybody.

        Raises:
            DeliveryError: The server refused it, for all or for some recipients, or cannot be reached.
        """
        if alert.is_aside and "said" in memory:
            return
        number, said = str(alert.transition), json.loads(memory.get("said", "{}"))
        # How often it was tried, and the code of the server's answer for each recipient.
        tries, codes = said.get(number, (0, {}))
        waiting = [to for to in self._recipients if FIRST_PASSING <= codes.get(to, FIRST_PASSING) < FIRST_PERMANENT]
        if waiting:
            codes |= self._sent(alert, waiting)
            memory["said"] = json.dumps({number: (tries + 1, codes)})
        refused = [to for to in self._recipients if codes[to] >= FIRST_PERMANENT]
        put_off = [to for to in self._recipients if FIRST_PASSING <= codes[to] < FIRST_PERMANENT]
        # What comes next must reach those who have this one.
        is_given_up = tries + 1 >= MOST_TRIES and len(refused) + len(put_off) < len(self._recipients)
        if put_off and not is_given_up:
            raise self._failed(f"put off {_named(put_off, codes)}", False)
        if refused or put_off:
            raise self._failed(f"refused {_named((*refused, *put_off), codes)}", True)

    def _sent(self, alert: Alert, recipients: Sequence[str]) -> dict[str, int]:
        """Send to some recipients; return the code of the server's answer for each."""
        try:
            server = self._connected()
            try:
                refused = server.send_message(self.message(alert), to_addrs=recipients)
            finally:
                # Whatever a server says to the end, what it has accepted stands.
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()
            return {**dict.fromkeys(recipients, ACCEPTED), **{to: code for to, (code, _text) in refused.items()}}
        except smtplib.SMTPResponseException as error:
            raise self._failed(f"answered {error.smtp_code}", error.smtp_code >= FIRST_PERMANENT) from None
        except smtplib.SMTPRecipientsRefused as error:
            # Nobody got it. A server that closes is not asked for the others.
            given = {to: code for to, (code, _text) in error.recipients.items()}
            return {**dict.fromkeys(recipients, CLOSING), **given}
        except (OSError, smtplib.SMTPException) as error:
            raise self._failed(f"not reached ({unreached(error)})", False) from None

    def _failed(self, what: str, permanent: bool) -> DeliveryError:
        hint = "; check the sender, the recipients and the login" if permanent else ""
        return DeliveryError(f"email {self.name}: {what}{hint}", permanent=permanent)

    def _connected(self) -> smtplib.SMTP:
        host, port = self._where
        if self._security == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = _TimedOverTls(host, port, timeout=self._timeout_seconds, context=context)
        else:
            server = _Timed(host, port, timeout=self._timeout_seconds)
        try:
            if self._security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self._username:
                server.login(self._username, self._password)
        except BaseException:
            server.close()
            raise
        return server

    def message(self, alert: Alert) -> EmailMessage:
        """Return the mail of a transition."""
        found, body = EmailMessage(), "\n".join(printable(cut(line, LONGEST_LINE)) for line in lines(alert))
        subject = f"[{mark(alert)}] {alert.title}"
        found["Subject"] = cut(" ".join(printable(subject).split()), LONGEST_SUBJECT)
        found["From"] = Address(addr_spec=self._sender)
        found["To"] = ", ".join(self._recipients)
        domain = self._sender.rpartition("@")[2]
        thread = hashlib.sha256(alert.key.encode("utf-8", "replace")).hexdigest()[:24]
        found["Message-ID"] = f"<{thread}.{alert.transition}@{domain}>"
        if alert.transition > 1:
            found["References"] = found["In-Reply-To"] = f"<{thread}.1@{domain}>"
        found["Auto-Submitted"] = "auto-generated"
        found.set_content(body)
        first, *rest = body.split("\n")
        html = f"<p><b>{escape(first)}</b></p><pre>{escape(chr(10).join(rest))}</pre>"
        found.add_alternative(html, subtype="html")
        return found


def _named(recipients: Sequence[str], codes: Mapping[str, int]) -> str:
    named = [f"{to} ({codes[to]})" for to in recipients[:MOST_NAMED]]
    more = len(recipients) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more else [])])
