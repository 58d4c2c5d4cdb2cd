"""What the server does, as a table; `/openapi.json` and `/docs` are made from it, and so are the routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

import msgspec
from msgspec import Struct

from serving import wire
from serving.keys import Role

_ERRORS: dict[int, str] = {
    400: "not JSON",
    401: "no key, or none that is known",
    403: "the key lacks the role, or is not for the pack",
    404: "unknown pack, moment or decision",
    408: "the body did not arrive in time",
    409: "the same key came before with something else in it",
    413: "the body is too large",
    422: "a field is wrong: `error.field` says which",
    429: "more is in flight than the replica admits, or than the key may: come back after `Retry-After` seconds",
    503: "it cannot be logged or stored, or the server is starting: do `fallback_action`, come back as in 429",
}
_POSTED = (400, 408, 413, 422, 429, 503)
_PARAMETERS = {"subject_id": msgspec.json.schema(wire.Id)}  # any other is looked up, whatever it is
_NAMES = {  # of an operation and code: parameters of other operations, and where the exchange names them
    ("decide", 201): {"decision_id": "$response.body#/decision_id", "subject_id": "$request.body#/subject_id"},
    ("state_consent", 200): {"subject_id": "$request.path.subject_id"},
}
_GUARDED = (401, 403, 429, 503)  # of an operation that has roles, where there are keys
ANY: tuple[Role, ...] = ("decide", "reward", "admin")
OPEN: tuple[Role, ...] = ()  # no key is needed


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: Literal["GET", "POST", "PUT"]
    path: str
    name: str  # of the endpoint that serves it
    does: str
    answers: Mapping[int, tuple[str, type[Struct] | None]]  # code -> meaning, body
    body: type[Struct] | None = None
    errors: tuple[int, ...] = ()
    many: bool = False  # the body may also be a list of those
    roles: tuple[Role, ...] = field(kw_only=True)  # one of which a key needs


OPERATIONS = (
    Operation(
        "POST",
        "/v1/decide",
        "decide",
        "Decide what to do for a customer in a moment. The same decision_id and body give the same answer.",
        {
            201: ("a new decision, also where degraded and where the action is no_action", wire.DecideAnswer),
            200: ("a stored decision (`replayed`), or one that was not kept (`dry_run`)", wire.DecideAnswer),
        },
        wire.DecideBody,
        (*_POSTED, 404, 409),
        roles=("decide",),
    ),
    Operation(
        "POST",
        "/v1/decide:batch",
        "decide_batch",
        f"Decide for up to {wire.MAX_ITEMS} at once: one feature read for all, and one bad item spoils none.",
        {200: ("the results in order, each an answer or an error", wire.BatchAnswer)},
        wire.BatchBody,
        _POSTED,
        roles=("decide",),
    ),
    Operation(
        "POST",
        "/v1/decisions/{decision_id}/rewards",
        "reward",
        "Report an outcome of a decision. The pack's formula makes the reward of it.",
        {202: ("it is in the log", wire.RewardAnswer), 200: ("it was there before", wire.RewardAnswer)},
        wire.RewardBody,
        (*_POSTED, 404, 409),
        roles=("reward",),
    ),
    Operation(
        "POST",
        "/v1/decisions/{decision_id}/activate",
        "activate",
        "Say that the action was shown. May be repeated; the first one counts.",
        {202: ("it is in the log", wire.AcceptedAnswer)},
        wire.ActivateBody,
        (*_POSTED, 404),
        roles=("decide", "reward"),
    ),
    Operation(
        "POST",
        "/v1/decisions/{decision_id}/override",
        "override",
        "Say that a person chose otherwise. The decision is kept out of learning.",
        {202: ("it is in the log", wire.AcceptedAnswer)},
        wire.OverrideBody,
        (*_POSTED, 404),
        roles=("reward",),
    ),
    Operation(
        "GET",
        "/v1/decisions/{decision_id}",
        "decision",
        "A decision's whole record, and where it stands.",
        {200: ("the record", wire.DecisionAnswer)},
        errors=(404, 503),
        roles=("admin",),
    ),
    Operation(
        "POST",
        "/v1/decisions/{decision_id}/replay",
        "replay",
        "Make a decision again from the log and the policy version it was made with.",
        {200: ("whether it came out the same, and the difference", wire.ReplayAnswer)},
        errors=(404, 429, 503),
        roles=("admin",),
    ),
    Operation(
        "POST",
        "/v1/events",
        "events",
        "Say what happened to customers, one event or up to "
        f"{wire.MAX_ITEMS}: all are taken or none, and the next decision of each customer knows of them. An event "
        "counts by its own time, and once where it has an event_id. It may be 365 days old, and 5 minutes ahead.",
        {202: ("they count from now on", wire.EventsAnswer)},
        wire.EventBody,
        _POSTED,
        many=True,
        roles=("reward",),
    ),
    Operation(
        "GET",
        "/v1/subjects/{subject_id}/consent",
        "consent",
        "What a customer has agreed to, purpose by purpose, and how that came to be. A purpose that was never spoken "
        "of counts as granted, and a decision's own `consent` can only narrow what is stored.",
        {200: ("what is stored; no purposes where that is nothing", wire.ConsentAnswer)},
        errors=(422, 503),
        roles=("admin",),
    ),
    Operation(
        "PUT",
        "/v1/subjects/{subject_id}/consent",
        "state_consent",
        "Grant or withhold purposes for a customer: it is in the log before it is answered, and the next decision "
        "honours it. What was observed last holds, so a call may be repeated; one without `observed_at` is of now. "
        "While `personalization`, or a purpose of a stored field, is withheld, nothing stored is read; a field is used "
        "only while its own purpose is not withheld. A purpose that was never spoken of counts as granted, and a "
        "decision's own `consent` can only narrow what is stored. While the state store is down, or being refilled "
        "from the log, this is a 503, and decisions read nothing stored.",
        {200: ("what is stored now", wire.ConsentAnswer)},
        wire.ConsentBody,
        _POSTED,
        roles=("admin",),
    ),
    Operation(
        "GET",
        "/v1/policies",
        "policies",
        "What serves each pack, since when, and what was rejected.",
        {200: ("one entry a pack", wire.PoliciesAnswer)},
        roles=ANY,
    ),
    Operation(
        "GET",
        "/v1/packs/{pack}",
        "pack",
        "The catalogue in force.",
        {200: ("the pack", wire.PackAnswer)},
        errors=(404,),
        roles=ANY,
    ),
    Operation(
        "GET",
        "/healthz",
        "healthz",
        "Whether the process lives.",
        {200: ("it does", wire.HealthAnswer)},
        roles=OPEN,
    ),
    Operation(
        "GET",
        "/readyz",
        "readyz",
        "Whether decisions can be made: a policy is loaded and the log can be written.",
        {200: ("they can; `status` says whether as they should", wire.ReadyAnswer), 503: ("not yet", wire.ReadyAnswer)},
        roles=OPEN,
    ),
    Operation(
        "GET",
        "/metrics",
        "metrics",
        "Counters of every replica of this machine for Prometheus.",
        {200: ("plain text", None)},
        roles=("admin",),
    ),
    Operation(
        "GET",
        "/openapi.json",
        "openapi",
        "This description.",
        {200: ("OpenAPI 3.1", None)},
        roles=OPEN,
    ),
    Operation(
        "GET",
        "/docs",
        "docs",
        "This description, to read.",
        {200: ("a page", None)},
        roles=OPEN,
    ),
)


def document(version: str, *, keys: bool = False) -> dict[str, Any]:
    """The description of the server as OpenAPI 3.1; `keys`: of one that lets nobody in without."""
    types = {
        wire.ErrorAnswer,
        *((wire.ReadyStatusAnswer,) if keys else ()),
        *(o.body for o in OPERATIONS),
        *(t for o in OPERATIONS for _, t in o.answers.values()),
    }
    known = sorted((t for t in types if t is not None), key=lambda t: t.__name__)
    schemas, components = msgspec.json.schema_components(known, ref_template="#/components/schemas/{name}")
    reference = dict(zip(known, schemas, strict=True))
    # What msgspec's types cannot say: a batch's items are read one by one, and answered by one of two.
    components["BatchBody"]["properties"]["decisions"]["items"] = reference[wire.DecideBody]
    components["BatchAnswer"]["properties"]["results"]["items"] = {
        "anyOf": [reference[wire.DecideAnswer], reference[wire.ErrorAnswer]]
    }
    components["EventBody"].update(_NPS_SAYS_A_NUMBER)
    _simplify(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, reference, keys=keys)
    secured = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if keys else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nba: a next-best-action decision server", "version": version},
        "paths": paths,
        "components": {"schemas": components, **secured},
    }


_NPS_SAYS_A_NUMBER = {
    "if": {"required": ["event"], "properties": {"event": {"const": "nps"}}},
    "then": {"required": ["value"], "properties": {"value": {"type": "number", "minimum": 0, "maximum": 10}}},
}


def _operation(operation: Operation, reference: Mapping[type[Struct], dict[str, Any]], *, keys: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.does, "responses": {}}
    names = _parameters(operation)
    if names:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": _PARAMETERS.get(name, {"type": "string"})}
            for name in names
        ]
    if operation.body is not None:
        required = operation.body is not wire.ActivateBody
        schema = reference[operation.body]
        if operation.many:
            schema = {"anyOf": [schema, {"type": "array", "items": schema, "maxItems": wire.MAX_ITEMS}]}
        described["requestBody"] = {"required": required, "content": _json(schema)}
    for code, (meaning, kind) in operation.answers.items():
        response: dict[str, Any] = {"description": meaning}
        if kind is not None:
            schema = reference[kind]
            if keys and kind is wire.ReadyAnswer:
                schema = {"anyOf": [schema, reference[wire.ReadyStatusAnswer]]}
            response["content"] = _json(schema)
        if links := _links(operation, code):
            response["links"] = links
        described["responses"][str(code)] = response
    guarded = keys and operation.roles
    if guarded:
        described["security"] = [{"key": []}]
        described["description"] = f"A key needs the role {' or '.join(operation.roles)}."
    for code in sorted({*operation.errors, *(_GUARDED if guarded else ())}):
        described["responses"][str(code)] = {
            "description": _ERRORS[code],
            "content": _json(reference[wire.ErrorAnswer]),
        }
    return described


def _simplify(schema: Any) -> None:
    """Makes a pair of one type a list of two of it: not every reader of OpenAPI 3.1 knows `prefixItems`."""
    if isinstance(schema, dict):
        pair = schema.get("prefixItems", ())
        if pair and all(item == pair[0] for item in pair):
            del schema["prefixItems"]
            schema["items"] = pair[0]
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _simplify(inner)


def _parameters(operation: Operation) -> list[str]:
    return [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]


def _links(operation: Operation, code: int) -> dict[str, Any]:
    """What can be asked next about what this answer names."""
    return {
        f"{follower.name}_of_{named}": {"operationId": follower.name, "parameters": {named: where}}
        for named, where in _NAMES.get((operation.name, code), {}).items()
        for follower in OPERATIONS
        if _parameters(follower) == [named]
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "code,pre{font:14px/1.4 ui-monospace,monospace;background:#f4f4f4;border-radius:4px}code{padding:.1em .3em}"
    "pre{padding:1rem;overflow:auto}h2{border-top:1px solid #ddd;padding-top:1rem}td{padding:.2rem 1rem .2rem 0}"
)


def page(described: Mapping[str, Any]) -> str:
    """The description as one HTML page that needs nothing else."""
    parts = [f"<h1>{escape(described['info']['title'])}</h1><p><a href='/openapi.json'>openapi.json</a></p>"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}</p>")
            content = operation.get("requestBody", {}).get("content")
            if content:
                parts.append(f"<p>Body: {_link(content)}</p>")
            rows = [
                f"<tr><td>{code}</td><td>{escape(answer['description'])}</td><td>{_link(answer.get('content'))}</td></tr>"
                for code, answer in operation["responses"].items()
            ]
            parts.append(f"<table>{''.join(rows)}</table>")
    for name, schema in described["components"]["schemas"].items():
        text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        parts.append(f"<h2 id='{name}'><code>{name}</code></h2><pre>{escape(text)}</pre>")
    return f"<!doctype html><meta charset=utf-8><title>nba</title><style>{_STYLE}</style>{''.join(parts)}"


def _link(content: Mapping[str, Any] | None) -> str:
    if not content:
        return ""
    schema = content["application/json"]["schema"]
    name = schema.get("anyOf", [schema])[0]["$ref"].rpartition("/")[2]
    return f"<a href='#{name}'><code>{name}</code></a>"
