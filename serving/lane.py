"""The fast lane: a replica's own HTTP listener, beside Serve's, for the same application.

Serve places, watches, scales and replaces the replica; what Serve's ingress does for a request costs more than a
decision, and is not needed here. All replicas of a machine listen on one port (SO_REUSEPORT): the kernel spreads
connections over them, and a dead one's share goes to the others.

A replica that stops loses no request:

    1. new connections go to the other listeners: the kernel drops their first packet here, and the client's system
       sends it again a second later, when this listener is gone; what was accepted already is served
    2. every answer says `Connection: close`
    3. a client that was silent for `DRAIN_S` is closed; what is in flight gets `FINISH_S` to end
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
import sys

from starlette.types import ASGIApp
from uvicorn.config import Config

from serving.lane_protocol import LaneProtocol, LaneState
from serving.settings import Settings

BACKLOG = 1_024  # connections that wait to be accepted
SETTLE_S = 0.05  # for connections whose first packets were answered already
DRAIN_S = 3.0
FINISH_S = 3.0
_POLL_S = 0.02
_SO_ATTACH_FILTER = 26  # of Linux
# "load the byte of TCP's flags; where SYN is set: drop; else: let through", as the kernel's packet filter reads it.
_NO_SYN = b"".join(
    struct.pack("HBBI", *step)
    for step in ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))
)
_log = logging.getLogger(__name__)


class Lane:
    """The listener of one replica. `trouble` says why it does not listen, where it should."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        config = Config(
            app,
            interface="asgi3",
            http=LaneProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keep_alive_s),
        )
        config.load()
        self._state = LaneState(config, settings.body_timeout_s, settings.max_connections)
        self._address = settings.host, settings.lane_port
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self.trouble = ""

    @property
    def connections(self) -> int:
        """Open at this moment."""
        return len(self._state.server.connections)

    @property
    def status(self) -> str:
        """Where it listens, for /readyz, or why it does not."""
        if self._state.draining:
            return "draining"
        host, port = self._address
        return self.trouble or ("off" if self._server is None else f"{host}:{port}")

    async def open(self) -> None:
        """Listens; where the port cannot be had the replica serves without, and /readyz says so."""
        host, port = self._address
        if port is None:
            return
        try:
            self._socket = listener(host, port)
        except (OSError, OverflowError) as error:
            self.trouble = f"cannot listen on {host}:{port}: {error}"
            _log.error("the fast lane is off: %s", self.trouble)
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: LaneProtocol(self._state), sock=self._socket, backlog=BACKLOG)

    async def drain(self) -> None:
        """Ends it as above; takes as long as the slowest client, and no longer than the limits say."""
        server, self._server = self._server, None
        if server is None or self._socket is None:
            return
        self._state.draining = True
        turn_away(self._socket)
        for connection in self._connections():
            connection.drain()
        await asyncio.sleep(SETTLE_S)
        server.close()
        await self._emptied(DRAIN_S)
        for connection in self._connections():
            connection.shutdown()
        await self._emptied(FINISH_S)
        for connection in self._connections():
            connection.transport.abort()

    async def _emptied(self, within_s: float) -> None:
        """Returns once nothing is connected, or so many seconds later."""
        clock = asyncio.get_running_loop().time
        until = clock() + within_s
        while self.connections and clock() < until:
            await asyncio.sleep(_POLL_S)

    def _connections(self) -> list[LaneProtocol]:
        return [c for c in self._state.server.connections if isinstance(c, LaneProtocol)]


def listener(host: str, port: int) -> socket.socket:
    """A listening socket that shares its port with those of the other replicas of this user. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setblocking(False)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def turn_away(listening: socket.socket) -> None:
    """From now on the kernel drops what would open a connection here; its sender tries again a second later.

    Without it, what waits to be accepted when a listener closes is reset. Linux only; elsewhere that stays so.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    steps = len(_NO_SYN) // struct.calcsize("HBBI")
    with contextlib.suppress(OSError):  # where that is not allowed it is as on other systems
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", steps, ctypes.addressof(program)))
