"""The HTTP contract, in process, with a real log and a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest

from features.online import FeatureRow, Fetched, Lookup
from nba.log import read_records
from nba.records import DecisionRecord
from serving.server import Server
from serving.wire import DecideAnswer

Body = Callable[..., dict[str, Any]]


class Stored:
    """A feature store that remembers whose features it was asked for."""

    def __init__(self, values: dict[str, Any], *, degraded: bool = False) -> None:
        self.row, self.degraded = FeatureRow(values, {"customer_history": 12.0, "customer_device": 3.0}), degraded
        self.asked: list[tuple[list[str], float]] = []

    async def fetch(self, subjects: Sequence[Lookup], deadline_s: float, *, now: Any) -> Fetched:
        read = [subject.subject_id for subject in subjects if subject.features]
        if read:
            self.asked.append((read, deadline_s))
        return Fetched([self.row if s.features else FeatureRow({}, {}) for s in subjects], self.degraded)

    async def close(self) -> None:
        pass


def with_store(scene: Any, store: Stored) -> None:
    scene.changes.append(lambda server: server.features.update(support=store))


def test_a_new_decision_has_every_field_of_the_contract(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        response = await client.post("/v1/decide", json=body(decision_id="2f0c-1"))
        answer = response.json()
        assert response.status_code == 201
        assert response.headers["location"] == "/v1/decisions/2f0c-1"
        assert {p.split(";")[0] for p in response.headers["server-timing"].split(", ")} >= {"features", "policy", "log"}
        assert set(answer) == {f for f in DecideAnswer.__struct_fields__ if f != "dry_run"}
        assert set(answer["action"]) == {"action_id", "layer", "channel", "treatment_id", "message", "delay_ms"}
        assert answer["distribution"][answer["action"]["action_id"]] == answer["propensity"]
        assert sum(answer["distribution"].values()) == 1.0
        assert answer["policy"] == {"name": "support", "version": "1", "kind": "uniform", "arm": "champion"}
        assert answer["funnel"]["catalogue"] == 7
        assert answer["reward"]["default"] == 0.0
        assert answer["replayed"] is False

    scene.play(scenario)


def test_a_repeated_decision_is_the_stored_answer_field_by_field_also_after_a_restart(scene: Any, body: Body) -> None:
    answers: list[httpx.Response] = []

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answers.append(await client.post("/v1/decide", json=body(decision_id="d-1", session_id="s")))
        answers.append(await client.post("/v1/decide", json=body(decision_id="d-1", session_id="s")))

    scene.play(scenario)
    scene.play(scenario)
    assert [a.status_code for a in answers] == [201, 200, 200, 200]
    assert [a.json()["replayed"] for a in answers] == [False, True, True, True]
    assert len({json.dumps({**a.json(), "replayed": None}) for a in answers}) == 1
    assert len(list(read_records(scene.home / "log"))) == 1


def test_the_same_id_with_another_body_is_a_conflict(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="d-1"))
        response = await client.post("/v1/decide", json=body(decision_id="d-1", context={"sentiment": -0.6}))
        assert response.status_code == 409
        assert response.json()["error"]["code"] == "conflict"

    scene.play(scenario)


def test_one_id_asked_many_times_at_once_is_decided_and_logged_once(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answers = await asyncio.gather(*(client.post("/v1/decide", json=body(decision_id="d-1")) for _ in range(20)))
        assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
        assert len({a.json()["action"]["action_id"] for a in answers}) == 1

    scene.play(scenario)
    assert len(list(read_records(scene.home / "log"))) == 1


def test_an_id_is_made_up_where_there_is_none(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        first, second = [(await client.post("/v1/decide", json=body())).json()["decision_id"] for _ in range(2)]
        assert first != second
        assert (await client.get(f"/v1/decisions/{first}")).status_code == 200

    scene.play(scenario)


@pytest.mark.parametrize(
    ("change", "status", "code", "field"),
    [
        ({"moment": "no_such"}, 404, "unknown_moment", "moment"),
        ({"pack": "no_such"}, 404, "unknown_pack", "pack"),
        ({"subject_id": None}, 422, "invalid", "subject_id"),
        ({"subject_id": "no spaces"}, 422, "invalid", "subject_id"),
        ({"subject_id": "newline\n"}, 422, "invalid", "subject_id"),
        ({"decision_id": "x" * 129}, 422, "invalid", "decision_id"),
        ({"explore": "yes"}, 422, "invalid", "explore"),
        ({"timeout_ms": 0}, 422, "invalid", "timeout_ms"),
        ({"exlude": []}, 422, "invalid", "exlude"),
        ({"actions": ["no_such"]}, 422, "unknown_action", "actions"),
        ({"exclude": ["no_such"]}, 422, "unknown_action", "exclude"),
        ({"baseline_action": "warm_reply", "exclude": ["warm_reply"]}, 422, "unknown_action", "baseline_action"),
    ],
)
def test_a_wrong_field_is_named(
    scene: Any, body: Body, change: dict[str, Any], status: int, code: str, field: str
) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        response = await client.post("/v1/decide", json=body(**change))
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["field"]) == (status, code, field)
        assert error["message"]
        assert error["help"]

    scene.play(scenario)
    assert list(read_records(scene.home / "log")) == []


HOSTILE = {
    "not json": (b"{", 400),
    "empty": (b"", 400),
    "another type": (b"[]", 422),
    "not a number": (b'{"subject_id":"u","moment":"tone_tuner","context":{"sentiment":NaN}}', 400),
    "infinite": (b'{"subject_id":"u","moment":"tone_tuner","context":{"sentiment":1e999}}', 422),
    "lone surrogate": (b'{"subject_id":"u","moment":"tone_tuner","context":{"locale":"\\ud800"}}', 400),
    "not utf-8": (b'{"subject_id":"u","moment":"tone_tuner","context":{"locale":"\xff"}}', 400),
    "deep": (b'{"subject_id":"u","moment":"tone_tuner","context":{"x":' + b"[" * 100_000, 400),
    "deep, closed": (b'{"subject_id":"u","moment":"m","context":{"x":' + b"[" * 900 + b"]" * 900 + b"}}", 404),
    "400 digits": (b'{"subject_id":"u","moment":"tone_tuner","context":{"sentiment":' + b"9" * 400 + b"}}", 422),
    "5,000 digits": (b'{"subject_id":"u","moment":"tone_tuner","context":{"x":' + b"9" * 5_000 + b"}}", 422),
    "the same key twice": (b'{"subject_id":"u","moment":"tone_tuner","moment":"tone_tuner"}', 422),
    "the same key twice, below": (b'{"subject_id":"u","moment":"tone_tuner","context":{"x":{"y":1,"y":2}}}', 422),
    "too large": (b" " * (256 * 1024) + b"{}", 413),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused_and_never_a_server_error(scene: Any, name: str) -> None:
    raw, status = HOSTILE[name]

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        response = await client.post("/v1/decide", content=raw)
        assert response.status_code == status, response.text
        assert response.json()["error"]["code"]

    scene.play(scenario)


def test_a_chunked_body_is_cut_off_at_the_limit(scene: Any) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b" " * 1_024

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.post("/v1/decide", content=chunks())).status_code == 413

    scene.play(scenario)


def test_a_body_that_does_not_come_is_not_waited_for(scene: Any) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.post("/v1/decide", content=slow())).status_code == 408

    scene.play(scenario, body_timeout_s=0.05)


def test_more_than_is_admitted_is_told_to_come_back(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answers = await asyncio.gather(*(client.post("/v1/decide", json=body()) for _ in range(10)))
        assert sorted(a.status_code for a in answers) == [201, 201] + [429] * 8
        refused = next(a for a in answers if a.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert (await client.post("/v1/decide", json=body())).status_code == 201

    scene.play(scenario, max_in_flight=2)


def test_a_log_that_cannot_be_written_is_503_with_the_apps_own_baseline(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        server.log.close()
        response = await client.post("/v1/decide", json=body(decision_id="d", baseline_action="warm_reply"))
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["fallback_action"] == "warm_reply"
        plain = await client.post("/v1/decide", json=body())
        assert plain.json()["fallback_action"] == "no_action"
        assert (await client.get("/readyz")).status_code == 503

    scene.play(scenario)


def test_whatever_goes_wrong_is_503_with_the_baseline(
    scene: Any, body: Body, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        monkeypatch.setattr("serving.engine.decide_many", broken)
        response = await client.post("/v1/decide", json=body(baseline_action="warm_reply"))
        assert (response.status_code, response.json()["fallback_action"]) == (503, "warm_reply")
        assert (await client.post("/v1/decide:batch", json={"decisions": [body()]})).status_code == 503
        assert "ZeroDivisionError" in caplog.text

    scene.play(scenario)


def test_a_dry_run_is_not_logged_and_claims_nothing(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        dry = await client.post("/v1/decide", json=body(decision_id="d", dry_run=True))
        assert (dry.status_code, dry.json()["dry_run"]) == (200, True)
        assert "location" not in dry.headers
        assert (await client.get("/v1/decisions/d")).status_code == 404
        assert (await client.post("/v1/decide", json=body(decision_id="d"))).status_code == 201

    scene.play(scenario)
    assert len(list(read_records(scene.home / "log"))) == 1


def test_stored_features_are_used_and_their_age_is_told(scene: Any, body: Body) -> None:
    store = Stored({"nps": 7.0, "device": "tablet", "contacts_30d": 99.0})
    with_store(scene, store)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answer = (await client.post("/v1/decide", json=body(decision_id="d", context={"device": "mobile"}))).json()
        values = (await client.get("/v1/decisions/d")).json()["record"]["decision"]["request"]["context"]["values"]
        assert (values["nps"], values["device"]) == (7.0, "mobile")  # what the request says comes first
        assert values["contacts_30d"] is None  # out of its range: the store's mistake, not the caller's
        assert answer["features"]["age_s"] == {"customer_history": 12.0, "customer_device": 3.0}
        assert "nps" not in answer["features"]["missing"]
        assert answer["degraded"] == []

    scene.play(scenario)
    assert [subjects for subjects, _ in store.asked] == [["u-381"]]
    assert b"u-381" not in b"".join(p.read_bytes() for p in (scene.home / "log").iterdir())


def test_a_failing_store_degrades_the_decision_and_says_so(scene: Any, body: Body) -> None:
    with_store(scene, Stored({}, degraded=True))

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        response = await client.post("/v1/decide", json=body())
        assert (response.status_code, response.json()["degraded"]) == (201, ["features"])
        assert "nps" in response.json()["features"]["missing"]

    scene.play(scenario)


def test_without_personalization_nothing_stored_is_read(scene: Any, body: Body) -> None:
    store = Stored({"nps": 7.0})
    with_store(scene, store)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        answer = (await client.post("/v1/decide", json=body(consent={"personalization": False}))).json()
        assert "nps" in answer["features"]["missing"]
        assert answer["degraded"] == []

    scene.play(scenario)
    assert store.asked == []


def test_a_field_whose_purpose_is_withheld_is_not_used(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        asked = body(decision_id="d", consent={"emotion": False, "unheard_of": False})
        answer = (await client.post("/v1/decide", json=asked)).json()
        record = (await client.get("/v1/decisions/d")).json()["record"]
        assert record["decision"]["request"]["context"]["values"]["sentiment"] is None
        assert "sentiment" in answer["features"]["missing"]
        assert "sentiment" not in answer["features"]["ignored"]
        assert "empathetic_reply_3" not in answer["distribution"]

    scene.play(scenario)


def test_the_feature_reads_deadline_comes_out_of_the_requests(scene: Any, body: Body) -> None:
    """Default 50 ms; 40 ms less the 20 ms that are kept for the rest is 20 ms; 15 ms leaves nothing."""
    store = Stored({})
    with_store(scene, store)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        for timeout_ms in (None, 40, 15):
            response = await client.post("/v1/decide", json=body(timeout_ms=timeout_ms))
            assert response.status_code in (201, 429)

    scene.play(scenario)
    long, short = (deadline for _, deadline in store.asked)
    assert 0.02 < long <= 0.05
    assert 0.0 < short <= 0.02


def test_unknown_keys_are_named_and_unusable_values_too(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        asked = body(context={"sentiment": "sad", "shoe_size": {"eu": 42}})
        features = (await client.post("/v1/decide", json=asked)).json()["features"]
        assert (features["ignored"], features["defaulted"]) == (["shoe_size"], ["sentiment"])

    scene.play(scenario)


def test_the_message_is_in_the_customers_language(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        said: dict[str, set[str | None]] = {}
        for locale in ("de", "en", "fr"):  # fr is not in the vocabulary: the field's default, en
            items = [body(actions=["formal_reply"], context={"locale": locale}) for _ in range(40)]
            results = (await client.post("/v1/decide:batch", json={"decisions": items})).json()["results"]
            said[locale] = {r["action"]["message"] for r in results}
        english = "Your message has been received and is being processed."
        assert said["en"] == said["fr"] == {None, english}  # None: no_action
        assert said["de"] == {None, "Ihre Nachricht ist eingegangen und wird bearbeitet."}

    scene.play(scenario)


def test_a_batch_answers_in_order_and_one_bad_item_spoils_none(scene: Any, body: Body) -> None:
    store = Stored({"nps": 7.0})
    with_store(scene, store)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        items = [
            body(decision_id="a", subject_id="u-1"),
            {"moment": 5},
            body(decision_id="b", subject_id="u-2", moment="no_such"),
            body(decision_id="c", subject_id="u-2"),
            body(decision_id="a", subject_id="u-1"),
            body(decision_id="a", subject_id="u-2"),
        ]
        response = await client.post("/v1/decide:batch", json={"decisions": items})
        results = response.json()["results"]
        assert response.status_code == 200
        assert [r.get("decision_id") for r in results] == ["a", None, None, "c", "a", None]
        assert [r.get("error", {}).get("code") for r in results] == [
            None,
            "invalid",
            "unknown_moment",
            None,
            None,
            "conflict",
        ]
        assert [r["replayed"] for r in results if "replayed" in r] == [False, False, True]

    scene.play(scenario)
    assert [subjects for subjects, _ in store.asked] == [["u-1", "u-2"]]  # one read for all
    assert [r.decision_id for r in read_records(scene.home / "log")] == ["a", "c"]


def test_a_batch_of_more_than_a_thousand_is_refused_and_one_of_a_thousand_is_not(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        items = [body(decision_id=f"d-{i}") for i in range(1_001)]
        assert (await client.post("/v1/decide:batch", json={"decisions": items})).status_code == 422
        results = (await client.post("/v1/decide:batch", json={"decisions": items[:1_000]})).json()["results"]
        assert [r["decision_id"] for r in results] == [i["decision_id"] for i in items[:1_000]]

    scene.play(scenario)


def test_a_key_twice_in_one_item_of_a_batch_spoils_that_item_only(scene: Any, body: Body) -> None:
    good = json.dumps(body())
    raw = f'{{"decisions":[{good},{good[:-1]},"moment":"tone_tuner"}}]}}'

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        results = (await client.post("/v1/decide:batch", content=raw)).json()["results"]
        assert "error" not in results[0]
        assert results[1]["error"]["code"] == "invalid"
        twice = await client.post("/v1/decide:batch", content=b'{"decisions":[],"decisions":[]}')
        assert twice.status_code == 422

    scene.play(scenario)


def test_a_decision_is_remade_bit_for_bit(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        for i in range(20):
            await client.post("/v1/decide", json=body(decision_id=f"d-{i}", session_id="s" if i % 2 else None))
            assert (await client.post(f"/v1/decisions/d-{i}/replay")).json() == {"identical": True}

    scene.play(scenario)


def test_without_redis_decisions_are_degraded_logged_and_not_learnable(scene: Any, body: Body, own_redis: Any) -> None:
    scene.redis_url = own_redis.url

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.post("/v1/decide", json=body(decision_id="before"))
        own_redis.kill()
        response = await client.post("/v1/decide", json=body(decision_id="during"))
        assert (response.status_code, response.json()["degraded"][-1]) == (201, "claims")
        assert (await client.post("/v1/decisions/during/replay")).json() == {"identical": True}
        reward = await client.post("/v1/decisions/before/rewards", json={"outcome": "resolved", "value": 1})
        assert (reward.status_code, reward.json()["status"]) == (202, "joined")
        assert (await client.get("/readyz")).json()["status"] == "degraded"
        assert (await client.get("/healthz")).status_code == 200

    scene.play(scenario)
    learnable = {
        r.decision_id: r.decision.learnable for r in read_records(scene.home / "log") if isinstance(r, DecisionRecord)
    }
    assert learnable == {"before": True, "during": False}


def test_an_unknown_path_and_a_wrong_method_have_error_bodies(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        unknown = await client.get("/v1/outcomes")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        wrong = await client.get("/v1/decide")
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "POST"

    scene.play(scenario)


def test_policies_and_pack_say_what_is_in_force(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        [policy] = (await client.get("/v1/policies")).json()["policies"]
        assert (policy["pack"], policy["policy"]["version"], policy["rejected"]) == ("support", "1", {})
        pack = (await client.get("/v1/packs/support")).json()
        assert pack["digest"] == server.packs["support"].digest
        assert "warm_reply" in pack["pack"]["actions"]
        assert (await client.get("/v1/packs/other")).status_code == 404

    scene.play(scenario)


def test_before_there_is_a_policy_the_answer_is_503_and_the_baseline(scene: Any, body: Body) -> None:
    scene.registry.alias = None

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        response = await client.post("/v1/decide", json=body(baseline_action="warm_reply"))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "no_policy")
        assert response.json()["fallback_action"] == "warm_reply"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")

    scene.play(scenario)


def test_metrics_count_what_was_done(scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        for _ in range(2):
            await client.post("/v1/decide", json=body(decision_id="d"))
        page = (await client.get("/metrics")).text.replace(f'replica="{server.pages.replica}",', "")
        assert 'nba_uniform_weight_count_total{moment="tone_tuner",pack="support"} 1.0' in page
        assert 'nba_decisions_replayed_total{moment="tone_tuner",pack="support"} 1.0' in page
        assert 'nba_champion_info{kind="uniform",pack="support",version="1"} 1.0' in page
        assert 'nba_claims_state{state="ready"} 1.0' in page
        assert 'nba_requests_total{code="201",route="/v1/decide"} 1.0' in page

    scene.play(scenario)
