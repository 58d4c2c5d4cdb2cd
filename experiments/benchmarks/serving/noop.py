"""The ceiling: an ASGI application that reads the body and says ok, bare or as a Ray Serve deployment.

python noop.py PORT              on bare uvicorn
"""

from __future__ import annotations

import sys
from typing import Any

HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"15")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers one request; takes part in the lifespan."""
    message = await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while message.get("more_body"):
        message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b'{"status":"ok"}'})


class Noop:
    """The application as what Serve builds a replica of."""

    async def __serve_build_asgi_app__(self) -> Any:
        """The application."""
        return app


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
