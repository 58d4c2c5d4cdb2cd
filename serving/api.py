"""The HTTP door: routes, limits, codes. What is behind it knows nothing of HTTP, and it knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nba.errors import NbaError
from serving import openapi, wire
from serving.answers import answer, error_answer
from serving.engine import Made, Timing
from serving.errors import (
    HttpError,
    MethodError,
    NotFoundError,
    OverloadError,
    SlowBodyError,
    TooLargeError,
    UnavailableNowError,
    status_of,
)
from serving.metrics import CONTENT_TYPE
from serving.openapi import OPERATIONS, Operation

if TYPE_CHECKING:
    from serving.server import Server

JSON = "application/json"
Endpoint = Callable[[Request, bytes], Awaitable[Response]]
_log = logging.getLogger(__name__)


class Api:
    """The application over one server's parts."""

    def __init__(self, server: Server) -> None:
        self._server, self._settings, self._metrics = server, server.settings, server.metrics
        self._in_flight = 0
        described = openapi.document(_version())
        self._document = msgspec.json.encode(described)
        self._page = openapi.page(described)
        self.app = Starlette(
            routes=[self._routed(path) for path in dict.fromkeys(operation.path for operation in OPERATIONS)],
            exception_handlers={404: _unknown_path, 405: _wrong_method},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._server.start()
        yield
        await self._server.close()

    def _routed(self, path: str) -> Route:
        """The operations of a path, as one route: what is none of them is told which there are."""
        routes = {str(operation.method): self._route(operation) for operation in OPERATIONS if operation.path == path}
        if len(routes) == 1:
            (method, route), *_ = routes.items()
            return Route(path, route, methods=[method])

        async def routed(request: Request) -> Response:
            return await routes["GET" if request.method == "HEAD" else request.method](request)

        return Route(path, routed, methods=list(routes))

    def _route(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of an operation with everything around it: limits, errors as answers, counting."""
        endpoint: Endpoint = getattr(self, operation.name)
        call = endpoint if operation.method == "GET" else self._limited(operation, endpoint)

        async def route(request: Request) -> Response:
            try:
                response = await call(request, b"")
            except NbaError as error:
                response = _refusal(error)
            except Exception:  # noqa: BLE001  # the only 5xx is 503, whatever happened
                _log.exception("%s %s failed", operation.method, operation.path)
                response = _refusal(_unexpected(None))
            self._metrics.answered(operation.path, response.status_code)
            return response

        return route

    def _limited(self, operation: Operation, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the body read before a place is taken, and no more places than there are."""
        takes_many = operation.many or operation.name == "decide_batch"
        largest = self._settings.max_batch_body if takes_many else self._settings.max_body

        async def limited(request: Request, _: bytes) -> Response:
            self._refuse_overload()
            body = await self._read(request, largest)
            self._refuse_overload()
            self._in_flight += 1
            self._metrics.in_flight.set(self._in_flight)
            try:
                return await endpoint(request, body)
            finally:
                self._in_flight -= 1
                self._metrics.in_flight.set(self._in_flight)

        return limited

    def _refuse_overload(self) -> None:
        if self._in_flight >= self._settings.max_in_flight:
            raise OverloadError(
                f"{self._in_flight} requests are in flight", help="take the baseline; come back after Retry-After"
            )

    async def _read(self, request: Request, largest: int) -> bytes:
        """The body. Raises TooLargeError before reading more than is allowed, SlowBodyError."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > largest:
            raise _too_large(largest)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > largest:
                        raise _too_large(largest)
        except TimeoutError:
            raise SlowBodyError(
                f"the body did not arrive within {self._settings.body_timeout_s:g} s", help="send it in one piece"
            ) from None
        return bytes(body)

    async def decide(self, request: Request, body: bytes) -> Response:
        """POST /v1/decide."""
        timing = Timing()
        asked = wire.read_body(body, wire.DecideBody)
        try:
            result = (await self._server.engine.decide([asked], timing))[0]
        except Exception as error:
            raise _logged(error, asked.baseline_action) from error
        if isinstance(result, NbaError):
            raise result
        self._metrics.took({**timing.seconds, "all": timing.elapsed})
        return _decided(result, timing)

    async def decide_batch(self, request: Request, body: bytes) -> Response:
        """POST /v1/decide:batch."""
        timing = Timing()
        results = await self._server.engine.decide(wire.read_batch(body), timing)
        self._metrics.took({f"batch_{stage}": seconds for stage, seconds in timing.seconds.items()})
        told = [_told(result) if isinstance(result, Made) else error_answer(result) for result in results]
        return _json(wire.BatchAnswer(results=told), 200, {"server-timing": _server_timing(timing)})

    async def reward(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/rewards."""
        asked = wire.read_body(body, wire.RewardBody)
        status = await self._server.outcomes.reward(request.path_params["decision_id"], asked)
        return _json(wire.RewardAnswer(status=status), 200 if status == "duplicate" else 202)

    async def activate(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/activate; its body may be left out."""
        asked = wire.read_body(body, wire.ActivateBody) if body else wire.ActivateBody()
        await self._server.outcomes.activate(request.path_params["decision_id"], asked)
        return _json(wire.AcceptedAnswer(status="activated"), 202)

    async def override(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/override."""
        asked = wire.read_body(body, wire.OverrideBody)
        await self._server.outcomes.override(request.path_params["decision_id"], asked)
        return _json(wire.AcceptedAnswer(status="overridden"), 202)

    async def decision(self, request: Request, body: bytes) -> Response:
        """GET /v1/decisions/{decision_id}."""
        return _json(await self._server.outcomes.look(request.path_params["decision_id"]))

    async def replay(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/replay."""
        record = await self._server.outcomes.decision(request.path_params["decision_id"])
        return _json(await self._server.replayer.replay(record.decision))

    async def events(self, request: Request, body: bytes) -> Response:
        """POST /v1/events."""
        taken = await self._server.events.take(wire.read_events(body))
        return _json(wire.EventsAnswer(accepted=taken.accepted, duplicates=taken.duplicates), 202)

    async def consent(self, request: Request, body: bytes) -> Response:
        """GET /v1/subjects/{subject_id}/consent."""
        return _json(await self._server.consents.look(_subject_id(request)))

    async def state_consent(self, request: Request, body: bytes) -> Response:
        """PUT /v1/subjects/{subject_id}/consent."""
        asked = wire.read_body(body, wire.ConsentBody)
        return _json(await self._server.consents.state(_subject_id(request), asked))

    async def policies(self, request: Request, body: bytes) -> Response:
        """GET /v1/policies."""
        return _json(wire.PoliciesAnswer(policies=self._server.serving()))

    async def pack(self, request: Request, body: bytes) -> Response:
        """GET /v1/packs/{pack}."""
        pack = self._server.intake.pack_of(request.path_params["pack"])
        return _json(wire.PackAnswer(digest=pack.digest, pack=pack))

    async def healthz(self, request: Request, body: bytes) -> Response:
        """GET /healthz."""
        return _json(wire.HealthAnswer())

    async def readyz(self, request: Request, body: bytes) -> Response:
        """GET /readyz."""
        ready = self._server.ready()
        return _json(ready, 503 if ready.status == "not_ready" else 200)

    async def metrics(self, request: Request, body: bytes) -> Response:
        """GET /metrics."""
        return Response(self._server.metrics_page(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request, body: bytes) -> Response:
        """GET /openapi.json."""
        return Response(self._document, media_type=JSON)

    async def docs(self, request: Request, body: bytes) -> Response:
        """GET /docs."""
        return Response(self._page, media_type="text/html")


def _subject_id(request: Request) -> str:
    return wire.read_id(request.path_params["subject_id"], "subject_id")


def _json(told: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(wire.encode(told), status, headers, JSON)


def _told(made: Made) -> wire.DecideAnswer:
    return answer(made.record, replayed=made.replayed, dry_run=made.dry_run)


def _decided(made: Made, timing: Timing) -> Response:
    headers = {"server-timing": _server_timing(timing)}
    if not made.dry_run:
        headers["location"] = f"/v1/decisions/{made.record.decision_id}"
    return _json(_told(made), 200 if made.replayed or made.dry_run else 201, headers)


def _server_timing(timing: Timing) -> str:
    return ", ".join(f"{stage};dur={seconds * 1_000.0:.3f}" for stage, seconds in timing.seconds.items())


def _refusal(error: NbaError) -> Response:
    retry_after_s = error.retry_after_s if isinstance(error, HttpError) else None
    headers = None if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return _json(error_answer(error), status_of(error), headers)


def _too_large(largest: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {largest} bytes", help="send less at once")


def _unexpected(fallback_action: str | None) -> UnavailableNowError:
    return UnavailableNowError(
        "something unexpected went wrong; the server's log has it",
        help="take fallback_action; retry with the same decision_id",
        fallback_action=fallback_action,
    )


def _logged(error: Exception, fallback_action: str | None) -> NbaError:
    """What the app is told of an error: itself where it was raised on purpose, else 503 and a line in the log."""
    if isinstance(error, NbaError):
        return error
    _log.error("a decision failed", exc_info=error)
    return _unexpected(fallback_action)


async def _unknown_path(request: Request, error: Exception) -> Response:
    return _refusal(NotFoundError(f"no path {request.url.path!r}", help="GET /openapi.json lists them"))


async def _wrong_method(request: Request, error: Exception) -> Response:
    response = _refusal(
        MethodError(f"{request.method} is not for {request.url.path!r}", help="GET /openapi.json lists the methods")
    )
    if isinstance(error, HTTPException) and error.headers is not None:
        response.headers.update(error.headers)
    return response


def _version() -> str:
    try:
        return version("nba-server")
    except PackageNotFoundError:
        return "0"
