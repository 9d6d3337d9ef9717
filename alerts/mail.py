"""Sends alerts by e-mail: one thread for each incident."""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from html import escape
from typing import ClassVar

from alerts.message import Alert
from alerts.notifier import DeliveryError, Memory
from alerts.wording import cut, mark, printable, text

LONGEST_SUBJECT = 200
FIRST_PERMANENT = 500


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
        """Send one transition.

        Raises:
            DeliveryError: The server refused it, or cannot be reached.
        """
        try:
            with self._connected() as server:
                refused = server.send_message(self.message(alert))
        except smtplib.SMTPResponseException as error:
            raise self._failed(f"answered {error.smtp_code}", error.smtp_code >= FIRST_PERMANENT) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _text in error.recipients.values()]
            raise self._failed("refused every recipient", all(code >= FIRST_PERMANENT for code in codes)) from None
        except (OSError, smtplib.SMTPException) as error:
            raise self._failed(f"not reached ({type(error).__name__})", False) from None
        if refused:
            codes = [code for code, _text in refused.values()]
            if any(code < FIRST_PERMANENT for code in codes):
                raise self._failed(f"put off {len(refused)} of {len(self._recipients)} recipients", False)

    def _failed(self, what: str, permanent: bool) -> DeliveryError:
        hint = "; check the sender, the recipients and the login" if permanent else ""
        return DeliveryError(f"email {self.name}: {what}{hint}", permanent=permanent)

    def _connected(self) -> smtplib.SMTP:
        host, port = self._where
        if self._security == "tls":
            context = ssl.create_default_context()
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=self._timeout_seconds, context=context)
        else:
            server = smtplib.SMTP(host, port, timeout=self._timeout_seconds)
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
        found, body = EmailMessage(), printable(text(alert))
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
