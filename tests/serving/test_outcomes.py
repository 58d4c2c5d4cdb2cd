"""Outcomes, activations and overrides over HTTP, in process, with a real log and a real Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from nba.log import read_records
from nba.records import ActivationRecord, OverrideRecord, RewardRecord
from serving.outcomes import only_report
from serving.server import Server

Body = Callable[..., dict[str, Any]]


async def report(client: httpx.AsyncClient, decision_id: str = "d", **given: Any) -> tuple[int, str]:
    response = await client.post(f"/v1/decisions/{decision_id}/rewards", json={"outcome": "resolved", **given})
    told = response.json()
    return response.status_code, told["status"] if "status" in told else told["error"]["code"]


def test_an_outcome_in_its_window_is_joined_and_logged(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        assert await report(client, value=1.0, idempotency_key="r") == (202, "joined")

    scene.play(scenario)
    [reward] = [r for r in read_records(scene.home / "log") if isinstance(r, RewardRecord)]
    assert (reward.outcome, reward.value, reward.idempotency_key) == ("resolved", 1.0, "r")


def test_the_same_report_again_is_a_duplicate_also_after_a_restart(scene: Any, body: Body) -> None:
    told = []

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        told.append(await report(client, value=1.0, idempotency_key="r"))
        told.append(await report(client, value=1.0, idempotency_key="other"))  # the pack counts it once

    scene.play(scenario)
    scene.play(scenario)
    assert told == [(202, "joined")] + [(200, "duplicate")] * 3
    assert sum(isinstance(r, RewardRecord) for r in read_records(scene.home / "log")) == 1


def test_a_report_without_a_key_counts_once(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        assert await report(client, value=1.0) == (202, "joined")
        assert await report(client, value=1.0) == (200, "duplicate")

    scene.play(scenario)
    assert only_report("d", "resolved") != only_report("d", "escalated")


def test_the_same_key_with_another_value_is_a_conflict(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        await report(client, value=1.0, idempotency_key="r")
        assert await report(client, value=0.0, idempotency_key="r") == (409, "conflict")

    scene.play(scenario)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"outcome": "no_such", "value": 1}, "outcome"),
        ({"value": 1.5}, "value"),
        ({"value": -0.1}, "value"),
        ({"value": "1"}, "value"),
        ({"value": 1, "observed_at": "yesterday"}, "observed_at"),
        ({"value": 1, "idempotency_key": "a b"}, "idempotency_key"),
    ],
)
def test_a_wrong_report_is_refused(scene: Any, body: Body, given: dict[str, Any], field: str) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        response = await client.post("/v1/decisions/d/rewards", json={"outcome": "resolved", **given})
        assert (response.status_code, response.json()["error"]["field"]) == (422, field)

    scene.play(scenario)


def test_an_unknown_decision_is_404_everywhere(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert await report(client, "no-such", value=1) == (404, "unknown_decision")
        asked = [
            await client.get("/v1/decisions/no-such"),
            await client.post("/v1/decisions/no-such/activate"),
            await client.post("/v1/decisions/no-such/override", json={"action_id": "warm_reply", "actor": "jo"}),
            await client.post("/v1/decisions/no-such/replay"),
            await client.get("/v1/decisions/%FF%00"),
        ]
        assert [r.json()["error"]["code"] for r in asked] == ["unknown_decision"] * 5

    scene.play(scenario)


def test_after_the_window_or_after_what_closed_it_an_outcome_is_late(scene: Any, body: Body) -> None:
    """The window of tone_tuner is 24 h; `resolved` closes it, `repeat_contact` does not."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        for decision_id in ("d", "e"):
            await client.post("/v1/decide", json=body(decision_id=decision_id))
        now = datetime.now(UTC)
        past = {"observed_at": (now + timedelta(hours=25)).isoformat()}
        later = {"observed_at": (now + timedelta(hours=23)).isoformat()}
        assert await report(client, value=1, **past) == (202, "late")
        assert await report(client, "e", outcome="repeat_contact", value=1, idempotency_key="1") == (202, "joined")
        assert await report(client, "e", value=1) == (202, "joined")
        assert await report(client, "e", outcome="escalated", value=1, **later) == (202, "late")

    scene.play(scenario)


def test_a_deferred_decision_waits_for_its_activation(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d", defer_activation=True))
        assert await report(client, value=1) == (202, "awaiting_activation")
        assert (await client.get("/v1/decisions/d")).json()["state"] == "awaiting_activation"
        for _ in range(2):
            activated = await client.post("/v1/decisions/d/activate")
            assert (activated.status_code, activated.json()) == (202, {"status": "activated"})
        assert await report(client, outcome="escalated", value=1) == (202, "joined")
        assert (await client.get("/v1/decisions/d")).json()["state"] == "waiting"

    scene.play(scenario)
    assert sum(isinstance(r, ActivationRecord) for r in read_records(scene.home / "log")) == 2


def test_an_activation_that_is_not_yet_is_refused(scene: Any, body: Body) -> None:
    """It would hold the decision's window open until then, and keep it from being learned from."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d", defer_activation=True))
        refused = await client.post("/v1/decisions/d/activate", json={"activated_at": "2999-01-01T00:00:00Z"})
        assert (refused.status_code, refused.json()["error"]["field"]) == (422, "activated_at")
        assert (await client.get("/v1/decisions/d")).json()["state"] == "awaiting_activation"

    scene.play(scenario)


def test_an_activation_is_found_in_the_log_after_a_restart(scene: Any, body: Body) -> None:
    async def first(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d", defer_activation=True))
        await client.post("/v1/decisions/d/activate", json={})

    async def second(client: httpx.AsyncClient, server: Server) -> None:
        assert await report(client, value=1) == (202, "joined")

    scene.play(first)
    scene.play(second)


def test_an_override_is_logged_and_the_decision_is_void(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        wrong = await client.post("/v1/decisions/d/override", json={"action_id": "push_now", "actor": "jo"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_action")
        right = await client.post("/v1/decisions/d/override", json={"action_id": "warm_reply", "actor": "jo"})
        assert (right.status_code, right.json()) == (202, {"status": "overridden"})
        assert (await client.get("/v1/decisions/d")).json()["state"] == "void"

    scene.play(scenario)
    [override] = [r for r in read_records(scene.home / "log") if isinstance(r, OverrideRecord)]
    assert (override.action_id, override.actor) == ("warm_reply", "jo")


def test_a_decision_tells_where_it_stands(scene: Any, body: Body) -> None:
    """resolved 1.0 at weight 1 less the cost of the action taken."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        before = (await client.get("/v1/decisions/d")).json()
        assert (before["state"], before["reward"], before["outcomes"]) == ("waiting", None, {})
        await report(client, value=1.0)
        after = (await client.get("/v1/decisions/d")).json()
        cost = server.packs["support"].action(after["record"]["decision"]["action_id"]).cost
        assert (after["state"], after["outcomes"]) == ("joined", {"resolved": 1.0})
        assert after["reward"] == 1.0 - cost

    scene.play(scenario)


def test_a_report_that_cannot_be_logged_is_to_be_sent_again(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d"))
        server.log.close()
        response = await client.post("/v1/decisions/d/rewards", json={"outcome": "resolved", "value": 1})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")

    scene.play(scenario)
