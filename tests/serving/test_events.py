"""Events over HTTP, and the decision that follows them, with a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from features.events import KINDS
from serving.server import Server

Body = Callable[..., dict[str, Any]]
PATH = "/v1/events"


def event(event: str = "contact", **more: Any) -> dict[str, Any]:
    return {"subject_id": "u-381", "event": event, **more}


async def history(client: httpx.AsyncClient, body: Body, subject: str = "u-381") -> dict[str, Any]:
    """What the next decision knows of a customer."""
    asked = body(subject_id=subject, moment="tone_tuner")
    decided = (await client.post("/v1/decide", json=asked)).json()
    found = await client.get(f"/v1/decisions/{decided['decision_id']}")
    used = found.json()["record"]["decision"]["request"]["context"]["values"]
    return {name: used[name] for name in ("contacts_30d", "open_cases", "nps")}


def test_one_event_or_many_are_accepted_and_the_next_decision_knows_of_them(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        one = await client.post(PATH, json=event(event_id="e-1"))
        assert (one.status_code, one.json()) == (202, {"accepted": 1, "duplicates": 0})
        assert (await history(client, body))["contacts_30d"] == 1
        told = [
            event(event_id="e-1"),
            event(),
            event("case_opened"),
            event("nps", value=9),
            event("purchase", value=9.5),
        ]
        many = await client.post(PATH, json=told)
        assert (many.status_code, many.json()) == (202, {"accepted": 4, "duplicates": 1})
        assert await history(client, body) == {"contacts_30d": 2, "open_cases": 1, "nps": 9.0}
        assert (await client.post(PATH, json=[])).json() == {"accepted": 0, "duplicates": 0}

    stored_scene.play(scenario)


def test_events_of_many_customers_may_come_in_one_call(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        told = [event(subject_id=f"u-{i % 250}", event_id=f"e-{i}") for i in range(1_000)]
        assert (await client.post(PATH, json=told)).json() == {"accepted": 1_000, "duplicates": 0}
        assert (await client.post(PATH, json=told)).json() == {"accepted": 0, "duplicates": 1_000}
        assert (await history(client, body, "u-249"))["contacts_30d"] == 4

    stored_scene.play(scenario)


def ago(**duration: float) -> str:
    return (datetime.now(UTC) - timedelta(**duration)).isoformat()


@pytest.mark.parametrize(
    ("wrong", "field", "told"),
    [
        ({"event": "prayer"}, "event", "purchase, contact, case_opened, case_resolved, nps"),
        ({"event": 7}, "event", "openapi"),
        ({"value": "1"}, "value", "openapi"),
        ({"value": True}, "value", "openapi"),
        ({"event": "nps", "value": 10.5}, "value", "[0, 10]"),
        ({"event": "nps"}, "value", "[0, 10]"),
        ({"event": "nps", "value": -1}, "value", "[0, 10]"),
        ({"subject_id": "a b"}, "subject_id", "openapi"),
        ({"subject_id": None}, "subject_id", "openapi"),
        ({"event_id": "x" * 129}, "event_id", "openapi"),
        ({"occurred_at": "2026-11-21T08:30:00"}, "occurred_at", "openapi"),
        ({"occurred_at": 1_700_000_000}, "occurred_at", "openapi"),
        ({"occurred_at": ago(days=-1)}, "occurred_at", "clock"),
        ({"occurred_at": ago(days=366)}, "occurred_at", "leave it out"),
        ({"kind": "contact"}, "kind", "openapi"),
    ],
)
def test_a_wrong_event_is_named_and_nothing_of_its_call_is_taken(
    stored_scene: Any, body: Body, wrong: dict[str, Any], field: str, told: str
) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        alone = await client.post(PATH, json=event(**wrong))
        among = await client.post(PATH, json=[event(), event(), event(), event(**wrong), event()])
        for answer, where in ((alone, field), (among, f"events[3].{field}")):
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["field"]) == (422, "invalid", where)
            assert told in error["help"]
        assert (await history(client, body))["contacts_30d"] is None

    stored_scene.play(scenario)


@pytest.mark.parametrize("occurred_at", [ago(minutes=-4), ago(days=364), ago(days=29)], ids=["ahead", "year", "month"])
def test_an_event_may_be_a_year_late_and_a_clock_a_little_ahead(
    stored_scene: Any, body: Body, occurred_at: str
) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.post(PATH, json=event(occurred_at=occurred_at))).status_code == 202
        recent = datetime.fromisoformat(occurred_at) > datetime.now(UTC) - timedelta(days=30)
        assert (await history(client, body))["contacts_30d"] == int(recent)

    stored_scene.play(scenario)


def test_hostile_bodies_are_refused_and_never_a_server_error(stored_scene: Any) -> None:
    infinite = b'{"subject_id":"u","event":"purchase","value":1e999}'
    bodies = {
        b"[": 400,
        b"": 400,
        b"7": 422,
        b'{"subject_id":"u","event":"nps","value":NaN}': 400,
        infinite: 422,
        b"[" + infinite + b"]": 422,
        b'[{"subject_id":"u","event":"contact","event":"purchase"}]': 422,
        b'{"subject_id":"u","event":"\\ud800"}': 400,
        b"[" * 100_000: 422,
        b"[" + b",".join([b'{"subject_id":"u","event":"contact"}'] * 1_001) + b"]": 422,
        b" " * (8 * 1024 * 1024) + b"[]": 413,
    }

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answers = [await client.post(PATH, content=raw) for raw in bodies]
        assert [a.status_code for a in answers] == list(bodies.values())
        assert all(a.json()["error"]["code"] for a in answers)

    stored_scene.play(scenario)


def test_two_replicas_take_an_event_once(stored_scene: Any, body: Body) -> None:
    async def other(client: httpx.AsyncClient, server: Server) -> None:
        async def again(_: httpx.AsyncClient, second: Server) -> None:
            from serving.wire import EventBody

            told = [EventBody(subject_id="u-381", event="contact", event_id=f"e-{i}") for i in range(100)]
            taken = await asyncio.gather(*(s.events.take(e) for e in told for s in (server, second)))
            assert (sum(t.accepted for t in taken), sum(t.duplicates for t in taken)) == (100, 100)

        await stored_scene._play(again, {})

    stored_scene.play(other)


def test_without_redis_events_are_503_and_none_is_taken(own_redis: Any, stored_scene: Any) -> None:
    stored_scene.redis_url = own_redis.url

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.post(PATH, json=event())).status_code == 202
        own_redis.kill()
        for _ in range(2):
            answer = await client.post(PATH, json=[event(event_id="e"), event(event_id="f")])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"]["code"] == "unavailable"

    stored_scene.play(scenario)


def test_a_server_without_a_feature_store_says_so(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answer = await client.post(PATH, json=event())
        assert (answer.status_code, "nba features apply" in answer.json()["error"]["help"]) == (503, True)

    scene.play(scenario)


def test_every_known_event_is_taken(stored_scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        told = [event(kind, value=5) for kind in KINDS]
        assert (await client.post(PATH, json=told)).json() == {"accepted": 5, "duplicates": 0}

    stored_scene.play(scenario)
