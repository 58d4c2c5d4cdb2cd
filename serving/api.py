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
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from nba.errors import NbaError, shown
from serving import openapi, wire
from serving.access import Access, Caller, own_token
from serving.answers import answer, error_answer
from serving.engine import Made, Timing
from serving.errors import (
    ForbiddenError,
    HttpError,
    InvalidError,
    MethodError,
    NotFoundError,
    OverloadError,
    SlowBodyError,
    TooLargeError,
    UnauthorizedError,
    UnavailableNowError,
    UnknownDecisionError,
    status_of,
)
from serving.lane import Lane
from serving.metrics import CONTENT_TYPE
from serving.openapi import OPERATIONS, Operation

if TYPE_CHECKING:
    from serving.server import Server
    from serving.tracing import Tracing

JSON = "application/json"
MAX_NAME = 128  # characters of a pack's name in a path
FIRST_POLICY_S = 10.0  # longest time a start waits for a policy to be loaded
Endpoint = Callable[[Request, bytes], Awaitable[Response]]
_log = logging.getLogger(__name__)


class Api:
    """The application over one server's parts, by the ASGI protocol."""

    def __init__(self, server: Server) -> None:
        self._server, self._settings, self._metrics = server, server.settings, server.metrics
        self._in_flight = 0
        self._lane = Lane(self, server.settings)
        self._tracing = _tracing(server.settings.otlp_endpoint)
        self._metrics.in_flight.set_function(lambda: self._in_flight)
        self._metrics.lane_connections.set_function(lambda: self._lane.connections)
        self._access = Access(
            server.settings.keys_path,
            required=server.settings.needs_keys,
            own_token=own_token(server.home.secret("own")),
            metrics=server.metrics,
        )
        described = [openapi.document(_version(), keys=keys) for keys in (False, True)]
        self._documents = [msgspec.json.encode(document) for document in described]
        self._pages = [openapi.page(document) for document in described]
        self._direct = {(o.method, o.path): self._route(o) for o in OPERATIONS if "{" not in o.path}
        self._routes = Starlette(
            routes=[self._routed(path) for path in dict.fromkeys(operation.path for operation in OPERATIONS)],
            exception_handlers={404: _unknown_path, 405: _wrong_method},
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. A path without parameters needs no search; all else is Starlette's."""
        direct = None
        if scope["type"] == "http" and not scope.get("root_path"):
            direct = self._direct.get((scope["method"], scope["path"]))
        if direct is None:
            await self._routes(scope, receive, send)
        else:
            response = await direct(Request(scope, receive))
            await response(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self._server.start()
        await self._until_able()
        await self._lane.open()
        yield
        await self._lane.drain()
        await self._server.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    async def _until_able(self) -> None:
        """Returns once decisions can be made, so that a replica takes over from another without a gap.

        Not where the registry says that there is no policy, and no later than `FIRST_POLICY_S`.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + FIRST_POLICY_S
        while self._server.ready().status == "not_ready" and clock() < until:
            if any(s.policy is None and s.registry == "ok" for s in self._server.serving()):
                return
            await asyncio.sleep(0.02)

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
                if operation.roles:
                    request.scope["caller"] = self._access.admit(request.scope["headers"], operation.roles)
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
            try:
                return await endpoint(request, body)
            finally:
                self._in_flight -= 1

        return limited

    def _refuse_overload(self) -> None:
        if self._in_flight >= self._settings.max_in_flight:
            raise OverloadError(
                f"{self._in_flight} requests are in flight", help="take the baseline; come back after Retry-After"
            )

    async def _read(self, request: Request, largest: int) -> bytes:
        """The body. Raises TooLargeError before reading more than is allowed, SlowBodyError."""
        for name, value in request.scope["headers"]:  # looked up in `request.headers` it takes four times as long
            if name == b"content-length" and value.isdigit() and int(value) > largest:
                raise _too_large(largest)
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await _whole(request.receive, largest)
        except TimeoutError:
            within = f"within {self._settings.body_timeout_s:g} s"
        except ClientDisconnect:
            within = "before the client went away"
        raise SlowBodyError(f"the body did not arrive {within}", help="send it in one piece")

    async def decide(self, request: Request, body: bytes) -> Response:
        """POST /v1/decide."""
        timing = Timing()
        asked = wire.read_body(body, wire.DecideBody)
        self._refuse_pack(_caller(request), asked)
        try:
            result = await self._server.engine.decide_one(asked, timing)
        except Exception as error:
            raise _logged(error, asked.baseline_action) from error
        if self._tracing is not None:
            self._tracing.decided("decide", request.headers, timing, [result])
        if isinstance(result, NbaError):
            raise result
        self._metrics.took({"all": timing.elapsed})
        return _decided(result, timing)

    async def decide_batch(self, request: Request, body: bytes) -> Response:
        """POST /v1/decide:batch."""
        timing = Timing()
        caller = _caller(request)
        asked = [self._for_pack(caller, item) for item in wire.read_batch(body)]
        caller.spend_more(len(asked) - 1)
        results = await self._server.engine.decide(asked, timing)
        self._metrics.took({f"batch_{stage}": seconds for stage, seconds in timing.stages.seconds.items()})
        if self._tracing is not None:
            self._tracing.decided("decide_batch", request.headers, timing, results)
        told = [_told(result) if isinstance(result, Made) else error_answer(result) for result in results]
        return _json(wire.BatchAnswer(results=told), 200, {"server-timing": timing.stages.told})

    async def reward(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/rewards."""
        asked = wire.read_body(body, wire.RewardBody)
        status = await self._server.outcomes.reward(_decision_id(request), asked, may=_caller(request).may)
        return _json(wire.RewardAnswer(status=status), 200 if status == "duplicate" else 202)

    async def activate(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/activate; its body may be left out."""
        asked = wire.read_body(body, wire.ActivateBody) if body else wire.ActivateBody()
        await self._server.outcomes.activate(_decision_id(request), asked, may=_caller(request).may)
        return _json(wire.AcceptedAnswer(status="activated"), 202)

    async def override(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/override."""
        asked = wire.read_body(body, wire.OverrideBody)
        await self._server.outcomes.override(_decision_id(request), asked, may=_caller(request).may)
        return _json(wire.AcceptedAnswer(status="overridden"), 202)

    async def decision(self, request: Request, body: bytes) -> Response:
        """GET /v1/decisions/{decision_id}."""
        return _json(await self._server.outcomes.look(_decision_id(request), may=_caller(request).may))

    async def replay(self, request: Request, body: bytes) -> Response:
        """POST /v1/decisions/{decision_id}/replay."""
        record = await self._server.outcomes.decision(_decision_id(request), may=_caller(request).may)
        return _json(await self._server.replayer.replay(record.decision))

    async def events(self, request: Request, body: bytes) -> Response:
        """POST /v1/events."""
        caller = _caller(request)
        caller.refuse_part(self._server.packs)
        events = wire.read_events(body)
        caller.spend_more(len(events) - 1 if isinstance(events, list) else 0)
        taken = await self._server.events.take(events)
        return _json(wire.EventsAnswer(accepted=taken.accepted, duplicates=taken.duplicates), 202)

    async def consent(self, request: Request, body: bytes) -> Response:
        """GET /v1/subjects/{subject_id}/consent."""
        _caller(request).refuse_part(self._server.packs)
        return _json(await self._server.consents.look(_subject_id(request)))

    async def state_consent(self, request: Request, body: bytes) -> Response:
        """PUT /v1/subjects/{subject_id}/consent."""
        _caller(request).refuse_part(self._server.packs)
        asked = wire.read_body(body, wire.ConsentBody)
        return _json(await self._server.consents.state(_subject_id(request), asked))

    async def policies(self, request: Request, body: bytes) -> Response:
        """GET /v1/policies."""
        may = _caller(request).may
        return _json(wire.PoliciesAnswer(policies=[s for s in self._server.serving() if may(s.pack)]))

    async def pack(self, request: Request, body: bytes) -> Response:
        """GET /v1/packs/{pack}."""
        name = request.path_params["pack"][:MAX_NAME]
        _caller(request).refuse_pack(name)
        pack = self._server.intake.pack_of(name)
        return _json(wire.PackAnswer(digest=pack.digest, pack=pack))

    async def healthz(self, request: Request, body: bytes) -> Response:
        """GET /healthz."""
        return _json(wire.HealthAnswer())

    async def readyz(self, request: Request, body: bytes) -> Response:
        """GET /readyz."""
        ready = replace(self._server.ready(), lane=self._lane.status, keys=self._access.status)
        if (self._lane.trouble or self._access.trouble) and ready.status == "ready":
            ready = replace(ready, status="degraded")
        told = ready if self._access.knows(request.scope["headers"]) else wire.ReadyStatusAnswer(status=ready.status)
        return _json(told, 503 if ready.status == "not_ready" else 200)

    async def metrics(self, request: Request, body: bytes) -> Response:
        """GET /metrics."""
        return Response(await self._server.metrics_page(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request, body: bytes) -> Response:
        """GET /openapi.json."""
        return Response(self._documents[self._access.in_force], media_type=JSON)

    async def docs(self, request: Request, body: bytes) -> Response:
        """GET /docs."""
        return Response(self._pages[self._access.in_force], media_type="text/html")

    def _refuse_pack(self, caller: Caller, asked: wire.DecideBody) -> None:
        """Raises ForbiddenError where the key is not for the pack that is asked about."""
        packs = self._server.packs
        name = next(iter(packs)) if asked.pack is None and len(packs) == 1 else asked.pack
        if name is not None:  # else the intake says that it is missing
            caller.refuse_pack(name)

    def _for_pack(self, caller: Caller, item: wire.DecideBody | NbaError) -> wire.DecideBody | NbaError:
        """The item of a batch, or why it is not for this key."""
        if isinstance(item, NbaError):
            return item
        try:
            self._refuse_pack(caller, item)
        except ForbiddenError as error:
            return error
        return item


async def _whole(receive: Receive, largest: int) -> bytes:
    """The body from its parts. Raises TooLargeError, ClientDisconnect."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > largest:
            raise _too_large(largest)
        if not message.get("more_body", False):
            return bytes(body + part) if body else part
        body += part


def _tracing(endpoint: str | None) -> Tracing | None:
    """Where traces go; None, and nothing imported, where nobody asks for any."""
    if endpoint is None:
        return None
    from serving.tracing import Tracing

    return Tracing(endpoint)


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["caller"]
    return caller


def _decision_id(request: Request) -> str:
    """The id in the path. Raises UnknownDecisionError where it is none: it reaches no store and no log."""
    decision_id: str = request.path_params["decision_id"]
    try:
        return wire.read_id(decision_id, "decision_id")
    except InvalidError as error:
        raise UnknownDecisionError(f"no decision {shown(decision_id)}", help=error.help, field="decision_id") from None


def _subject_id(request: Request) -> str:
    return wire.read_id(request.path_params["subject_id"], "subject_id")


class _Json(Response):
    """An answer in JSON; its headers take a third of the time that those of any answer take."""

    def __init__(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.body, self.status_code, self.background = body, status, None
        self.raw_headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
        ]


def _json(told: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return _Json(wire.encode(told), status, headers or {})


def _told(made: Made) -> wire.DecideAnswer:
    return answer(made.record, replayed=made.replayed, dry_run=made.dry_run)


def _decided(made: Made, timing: Timing) -> Response:
    headers = {"server-timing": timing.stages.told}
    if not made.dry_run:
        headers["location"] = f"/v1/decisions/{made.record.decision_id}"
    return _json(_told(made), 200 if made.replayed or made.dry_run else 201, headers)


def _refusal(error: NbaError) -> Response:
    retry_after_s = error.retry_after_s if isinstance(error, HttpError) else None
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    if isinstance(error, UnauthorizedError):
        headers["www-authenticate"] = "Bearer"
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
    return _refusal(NotFoundError(f"no path {shown(request.url.path)}", help="GET /openapi.json lists them"))


async def _wrong_method(request: Request, error: Exception) -> Response:
    response = _refusal(
        MethodError(
            f"{request.method} is not for {shown(request.url.path)}", help="GET /openapi.json lists the methods"
        )
    )
    if isinstance(error, HTTPException) and error.headers is not None:
        response.headers.update(error.headers)
    return response


def _version() -> str:
    try:
        return version("nba-server")
    except PackageNotFoundError:
        return "0"
