"""Connections of the server: how long a client may owe the rest of a request, and who goes when there are too many."""

from __future__ import annotations

import time
from typing import Any

from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer

# A scraper sends its request at once; whoever takes longer than this holds a connection, not a conversation.
LONGEST_REQUEST_SECONDS = 10.0
MOST_CONNECTIONS = 100
# Bodies that are still being sent, each of which may be held in memory as a whole.
MOST_UPLOADS = 8


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that knows since when its client is waited for."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.since = time.time()
        self.has_asked = False
        super().__init__(*args, **more)

    def received(self, data: bytes) -> bool:
        """Take bytes of the client; part of waitress."""
        if self.request is None:
            self.since = time.time()
        taken: bool = super().received(data)
        self.has_asked = self.has_asked or bool(self.requests)
        return taken

    @property
    def is_uploading(self) -> bool:
        """Whether a body is on its way."""
        request = self.request
        return request is not None and bool(request.headers_finished)

    @property
    def progress(self) -> float:
        """When this connection last got further: its answer, or else the start of its request."""
        return float(self.last_activity) if self.total_outbufs_len else self.since

    def is_late(self, now: float) -> bool:
        """Return whether a request has been begun, or was to come, for too long."""
        owes = self.request is not None or not self.has_asked
        return owes and not self.requests and now - self.since > LONGEST_REQUEST_SECONDS


class Listener(TcpWSGIServer):  # type: ignore[misc]
    """A listening socket that never stops accepting for the sake of clients that only hold connections."""

    channel_class: Any = Channel

    def tidy(self, now: float) -> None:
        """Close connections whose clients are late, and where too many are left, those that stood still for longest.

        Requests that are being answered stay. To be called between two rounds of the loop: in one, the number of a
        closed connection may be given to the next.
        """
        channels: list[Channel] = [found for found in self.active_channels.values() if not found.requests]
        late = [found for found in channels if found.is_late(now)]
        rest = sorted((found for found in channels if not found.is_late(now)), key=lambda found: found.progress)
        uploads = [found for found in rest if found.is_uploading]
        going = {*late, *uploads[: max(0, len(uploads) - MOST_UPLOADS)]}
        crowd = len(self.active_channels) - len(going) + 1 - MOST_CONNECTIONS
        going.update([found for found in rest if found not in going][: max(0, crowd)])
        for channel in going:
            channel.handle_close()
