from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from serving import openapi
from serving.server import Server

DOCUMENT = openapi.document("1")
Body = Callable[..., dict[str, Any]]


def checked(name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
    assert "DecideBody" in names


def test_every_path_of_the_contract_is_described() -> None:
    assert {(m.upper(), path) for path, methods in DOCUMENT["paths"].items() for m in methods} == {
        ("POST", "/v1/decide"),
        ("POST", "/v1/decide:batch"),
        ("POST", "/v1/decisions/{decision_id}/rewards"),
        ("POST", "/v1/decisions/{decision_id}/activate"),
        ("POST", "/v1/decisions/{decision_id}/override"),
        ("POST", "/v1/decisions/{decision_id}/replay"),
        ("GET", "/v1/decisions/{decision_id}"),
        ("POST", "/v1/events"),
        ("GET", "/v1/subjects/{subject_id}/consent"),
        ("PUT", "/v1/subjects/{subject_id}/consent"),
        ("GET", "/v1/policies"),
        ("GET", "/v1/packs/{pack}"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
    }


def test_what_the_server_answers_is_what_it_describes(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.get("/openapi.json")).json()["paths"] == DOCUMENT["paths"]
        checked("DecideBody", body())
        checked("DecideAnswer", (await client.post("/v1/decide", json=body(decision_id="d"))).json())
        batch = {"decisions": [body(), {}]}
        checked("BatchAnswer", (await client.post("/v1/decide:batch", json=batch)).json())
        checked("ErrorAnswer", (await client.post("/v1/decide", json={})).json())
        reward = {"outcome": "resolved", "value": 1}
        checked("RewardAnswer", (await client.post("/v1/decisions/d/rewards", json=reward)).json())
        checked("AcceptedAnswer", (await client.post("/v1/decisions/d/activate")).json())
        checked("DecisionAnswer", (await client.get("/v1/decisions/d")).json())
        checked("ReplayAnswer", (await client.post("/v1/decisions/d/replay")).json())
        stated = {"purposes": {"emotion": False}, "source": "form"}
        checked("ConsentBody", stated)
        checked("ConsentAnswer", (await client.put("/v1/subjects/u/consent", json=stated)).json())
        checked("ConsentAnswer", (await client.get("/v1/subjects/u/consent")).json())
        event = {"subject_id": "u", "event": "nps", "value": 7, "event_id": "e"}
        checked("EventBody", event)
        checked("EventsAnswer", (await client.post("/v1/events", json=[event])).json())
        checked("PoliciesAnswer", (await client.get("/v1/policies")).json())
        checked("PackAnswer", (await client.get("/v1/packs/support")).json())
        checked("ReadyAnswer", (await client.get("/readyz")).json())
        checked("HealthAnswer", (await client.get("/healthz")).json())

    stored_scene.play(scenario)


def test_events_are_one_or_a_list_of_at_most_a_thousand() -> None:
    described = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    event = {"subject_id": "u", "event": "purchase"}
    validator = Draft202012Validator({**described, "components": DOCUMENT["components"]})
    assert [validator.is_valid(told) for told in (event, [event] * 1_000, [])] == [True] * 3
    wrong = ([event] * 1_001, {**event, "event": "unheard_of"}, [{**event, "value": "1"}], 7)
    assert [validator.is_valid(told) for told in wrong] == [False] * 4


@pytest.mark.parametrize("wrong", [{"moment": "m"}, {"subject_id": "a b", "moment": "m"}, {"subject_id": "u"}])
def test_what_is_refused_is_not_in_the_description_either(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"required property|does not match"):
        checked("DecideBody", wrong)


def test_the_page_stands_alone() -> None:
    page = openapi.page(DOCUMENT)
    assert "/v1/decide:batch" in page
    assert "http://" not in page
    assert "<script" not in page


def test_a_decision_leads_to_all_that_can_be_asked_of_it() -> None:
    links = DOCUMENT["paths"]["/v1/decide"]["post"]["responses"]["201"]["links"]
    told = {link["operationId"] for link in links.values() if "decision_id" in link["parameters"]}
    assert told == {"reward", "activate", "override", "decision", "replay"}
    assert links["reward_of_decision_id"]["parameters"] == {"decision_id": "$response.body#/decision_id"}


@pytest.mark.parametrize("value", [None, 11, -1])
def test_the_description_says_that_nps_has_an_answer_from_0_to_10(value: float | None) -> None:
    with pytest.raises(Exception, match=r"is not of type|greater than|less than"):
        checked("EventBody", {"subject_id": "u", "event": "nps", "value": value})
