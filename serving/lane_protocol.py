"""One connection of the fast lane: uvicorn's HTTP on httptools, with limits on what a client may keep us waiting for.

head of a request      `head_s` from its first byte, or from the connection's; else 408, or nothing to say
the rest of a body     the application reads it within its own limit; where it answered without, `head_s` more
between requests       `keep_alive_s`
an answer not read     UNREAD_S
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httptools
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.answers import error_answer
from serving.errors import HeadTooLargeError, HttpError, NotHttpError, OverloadError, SlowBodyError, status_of
from serving.wire import encode

MAX_HEAD = 64 * 1024  # bytes of a request's line and headers
UNREAD_S = 10.0  # longest time a client may leave an answer unread that does not fit into the system's buffers


@dataclass(slots=True)
class LaneState:
    """What the connections of one lane share."""

    config: Config
    head_s: float  # seconds
    most: int  # connections
    server: ServerState = field(default_factory=ServerState)
    draining: bool = False  # every answer from now on says `Connection: close`


class LaneProtocol(HttpToolsProtocol):
    """A connection; `state.server.connections` holds it while it is open."""

    def __init__(self, state: LaneState) -> None:
        super().__init__(state.config, state.server, {}, asyncio.get_running_loop())
        self._state = state
        self._in_head = False  # a request has begun and its head is not complete
        self._head = 0  # bytes that came while it was not
        self._overdue: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        if len(self.connections) > self._state.most:
            self.app = _crowded
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # it is answered as what it is without
        except httptools.HttpParserError as error:
            self._refuse(NotHttpError(f"this is not HTTP/1.1: {error}", help="check the client, and what is between"))
            return
        if self._in_head:
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(HeadTooLargeError(f"the head has more than {MAX_HEAD} bytes", help="send fewer headers"))
        elif self.cycle is None or self.cycle.response_complete:
            self._expect()  # line ends between requests are no request

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._expect()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = False
        self._expect_nothing()
        super().on_headers_complete()
        if self._state.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._expect_nothing()
        super().on_message_complete()
        self.cycle.more_body = False  # also of a request that was answered before

    def on_response_complete(self) -> None:
        """Called by the request that has been answered."""
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._expect()  # the next request comes after the rest of this one

    def drain(self) -> None:
        """Tells the client with the answer that is under way, if one is, that this connection ends with it."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def pause_writing(self) -> None:
        """Called by the event loop."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Called by the event loop."""
        super().resume_writing()
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._expect_nothing()
        self._read()
        super().connection_lost(exc)

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expect(self) -> None:
        """More has to come in time."""
        if self._overdue is None:
            self._overdue = self.loop.call_later(self._state.head_s, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _too_slow(self) -> None:
        self._overdue = None
        if self._in_head:
            within = f"within {self._state.head_s:g} s"
            self._refuse(SlowBodyError(f"the request's head did not arrive {within}", help="send it in one piece"))
        else:
            self.transport.close()

    def _refuse(self, error: HttpError) -> None:
        """Answers what is no request, and ends the connection."""
        if self.cycle is None or self.cycle.response_complete:
            body = encode(error_answer(error))
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status_of(error)] + head + body)
        self.transport.close()


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands in for the application where there are too many connections."""
    error = OverloadError("too many connections are open", help="come back after Retry-After, with fewer")
    headers = {"retry-after": "1", "connection": "close"}
    response: Any = Response(encode(error_answer(error)), status_of(error), headers, "application/json")
    await response(scope, receive, send)
