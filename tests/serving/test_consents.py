"""Consent over HTTP, and what it does to decisions, with a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import redis

from nba.errors import LogError, UnavailableError
from nba.log import read_records
from nba.log.verify import verify
from nba.records import ConsentRecord, DecisionRecord
from serving.server import Server

Body = Callable[..., dict[str, Any]]
PATH = "/v1/subjects/u-381/consent"


async def state(client: httpx.AsyncClient, path: str = PATH, **purposes: bool) -> httpx.Response:
    answer = await client.put(path, json={"purposes": purposes})
    assert answer.status_code == 200, answer.text
    return answer


async def values(client: httpx.AsyncClient, decision_id: str) -> dict[str, Any]:
    """The facts that a decision was made on."""
    found = await client.get(f"/v1/decisions/{decision_id}")
    used: dict[str, Any] = found.json()["record"]["decision"]["request"]["context"]["values"]
    return used


async def refill(server: Server) -> None:
    """What a server does by itself, as often as it is set to."""
    async with asyncio.timeout(10):
        while await server.claims.ensure(lambda: read_records(server.home.log)) != "ready":
            await asyncio.sleep(0.02)


def statements(scene: Any) -> list[ConsentRecord]:
    """What the log has of consent."""
    return [record for record in read_records(scene.home / "log") if isinstance(record, ConsentRecord)]


SELDOM = {"rebuild_poll_s": 60.0}  # nothing is refilled but by `refill`


async def bought(client: httpx.AsyncClient, *subjects: str) -> None:
    """Each of these gives an answer of 7, so that there is something stored."""
    told = [{"subject_id": subject, "event": "nps", "value": 7} for subject in subjects]
    assert (await client.post("/v1/events", json=told)).status_code == 202


def test_what_is_put_is_what_is_got(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        nothing = await client.get(PATH)
        assert (nothing.status_code, nothing.json()) == (200, {"subject_id": "u-381", "purposes": {}, "history": []})
        given = {"purposes": {"emotion": False}, "source": "form", "observed_at": "2026-01-01T10:00:00+01:00"}
        put = await client.put(PATH, json=given)
        since = "2026-01-01T09:00:00Z"
        assert put.json() == {
            "subject_id": "u-381",
            "purposes": {"emotion": {"granted": False, "since": since}},
            "history": [{"purpose": "emotion", "granted": False, "since": since, "source": "form"}],
        }
        assert (await client.get(PATH)).json() == put.json()

    scene.play(scenario)


@pytest.mark.parametrize(
    ("given", "field", "told"),
    [
        ({"purposes": {"astrology": True}}, "purposes.astrology", "behavioural_timing, emotion, personalization, pro"),
        ({"purposes": {"emotion": 1}}, "purposes[...]", "openapi"),
        ({"purposes": {"emotion": "no"}}, "purposes[...]", "openapi"),
        ({"purposes": {}}, "purposes", "openapi"),
        ({}, "purposes", "openapi"),
        ({"purposes": {"emotion": True}, "source": "x" * 65}, "source", "openapi"),
        ({"purposes": {"emotion": True}, "observed_at": "2026-01-01T10:00:00"}, "observed_at", "openapi"),
        ({"purposes": {"emotion": True}, "observed_at": "2999-01-01T10:00:00Z"}, "observed_at", "clock"),
        ({"purposes": {"emotion": True}, "level": 0}, "level", "openapi"),
    ],
)
def test_a_wrong_statement_is_refused_and_nothing_of_it_is_stored(
    scene: Any, given: dict[str, Any], field: str, told: str
) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        if "astrology" in given.get("purposes", {}):
            given["purposes"] = {"emotion": False, **given["purposes"]}
        answer = await client.put(PATH, json=given)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["field"]) == (422, "invalid", field)
        assert told in error["help"]
        assert (await client.get(PATH)).json()["purposes"] == {}

    scene.play(scenario)


def test_hostile_statements_have_error_bodies(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        bad_id = "/v1/subjects/a%20b/consent"
        answers = [
            await client.get(bad_id),
            await client.put(bad_id, json={"purposes": {"emotion": True}}),
            await client.put(PATH, content=b"{"),
            await client.put(PATH, content=b'{"purposes":{"emotion":true,"emotion":false}}'),
            await client.put(PATH, content=b" " * (256 * 1024) + b"{}"),
            await client.delete(PATH),
        ]
        assert [a.status_code for a in answers] == [422, 422, 400, 422, 413, 405]
        assert [a.json()["error"].get("field") for a in answers[:2]] == ["subject_id", "subject_id"]
        assert set(answers[-1].headers["allow"].split(", ")) == {"GET", "HEAD", "PUT"}
        assert (await client.head(PATH)).status_code == 200

    scene.play(scenario)


def test_the_next_decision_honours_every_change(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        for i, (stated, nps, sentiment) in enumerate(
            [
                ({}, 7.0, -0.7),
                ({"emotion": False}, 7.0, None),
                ({"personalization": False}, None, None),
                ({"emotion": True}, None, -0.7),
                ({"personalization": True}, 7.0, -0.7),
            ]
        ):
            if stated:
                await state(client, **stated)
            answer = (await client.post("/v1/decide", json=body(decision_id=f"d-{i}"))).json()
            used = await values(client, f"d-{i}")
            assert (used["nps"], used["sentiment"]) == (nps, sentiment)
            assert ("nps" in answer["features"]["missing"]) is (nps is None)
            assert answer["degraded"] == []

    stored_scene.play(scenario)


def test_a_request_narrows_what_is_stored_and_never_widens_it(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        await state(client, personalization=False, emotion=True)
        await client.post("/v1/decide", json=body(decision_id="wide", consent={"personalization": True}))
        await client.post("/v1/decide", json=body(decision_id="narrow", consent={"emotion": False}))
        await state(client, personalization=True)
        await client.post("/v1/decide", json=body(decision_id="own", consent={"personalization": False}))
        used = [await values(client, decision_id) for decision_id in ("wide", "narrow", "own")]
        assert [(u["nps"], u["sentiment"]) for u in used] == [(None, -0.7), (None, None), (None, -0.7)]

    stored_scene.play(scenario)


def test_a_batch_honours_the_consent_of_each(stored_scene: Any, body: Body) -> None:
    """u-2 withholds; u-1 is asked about twice, once with a request that withholds."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-1", "u-2", "u-3")
        await state(client, "/v1/subjects/u-2/consent", personalization=False)
        requests = [
            body(decision_id="a", subject_id="u-1", consent={"personalization": False}),
            body(decision_id="b", subject_id="u-2"),
            body(decision_id="c", subject_id="u-1"),
            body(decision_id="d", subject_id="u-3"),
        ]
        answer = await client.post("/v1/decide:batch", json={"decisions": requests})
        assert [result["degraded"] for result in answer.json()["results"]] == [[]] * 4
        assert [(await values(client, i))["nps"] for i in "abcd"] == [None, None, 7.0, 7.0]

    stored_scene.play(scenario)


def test_a_decision_is_replayed_bit_for_bit_after_consent_has_changed(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        for i, granted in enumerate((True, False, True)):
            await state(client, personalization=granted, emotion=granted)
            await client.post("/v1/decide", json=body(decision_id=f"d-{i}"))
        await state(client, personalization=False)
        replays = [(await client.post(f"/v1/decisions/d-{i}/replay")).json() for i in range(3)]
        assert replays == [{"identical": True}] * 3
        again = await client.post("/v1/decide", json=body(decision_id="d-0"))
        assert (again.status_code, again.json()["replayed"]) == (200, True)  # what was decided stays so

    stored_scene.play(scenario)


def test_without_redis_consent_is_503_and_decisions_go_by_the_request(
    own_redis: Any, stored_scene: Any, body: Body
) -> None:
    stored_scene.redis_url = own_redis.url

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        await state(client, emotion=False, personalization=False)
        own_redis.kill()
        told = await client.put(PATH, json={"purposes": {"emotion": True}})
        for answer in (told, await client.get(PATH)):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["error"]["code"] == "unavailable"
        decided = await client.post("/v1/decide", json=body(decision_id="d", consent={"behavioural_timing": False}))
        assert decided.status_code == 201
        assert decided.json()["degraded"] == ["features", "consent", "claims"]
        withheld = await client.post("/v1/decide", json=body(consent={"personalization": False}))
        assert withheld.json()["degraded"] == ["consent", "claims"]
        assert (await client.post("/v1/decisions/d/replay")).json() == {"identical": True}

    stored_scene.play(scenario)
    made = next(r for r in read_records(stored_scene.home / "log") if isinstance(r, DecisionRecord))
    assert (made.decision.context.values["nps"], made.decision.context.values["sentiment"]) == (None, -0.7)


def test_a_subject_is_kept_by_its_hash(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await state(client, emotion=False)

    scene.play(scenario)
    with redis.Redis.from_url(scene.redis_url) as store:
        kept = [key for key in store.keys("*") if key.startswith(b"nba:c")]
    assert len(kept) == 2
    assert not any(b"u-381" in key for key in kept)


def test_statements_and_decisions_at_once_never_use_what_is_withheld(stored_scene: Any, body: Body) -> None:
    """Withdrawal is answered before the decisions are sent: none of them may use anything stored."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        for turn in range(5):
            await state(client, personalization=False)
            ids = [f"d-{turn}-{i}" for i in range(10)]
            asked = (client.post("/v1/decide", json=body(decision_id=decision_id)) for decision_id in ids)
            await asyncio.gather(*asked, client.get(PATH))
            assert {(await values(client, decision_id))["nps"] for decision_id in ids} == {None}
            await state(client, personalization=True)

    stored_scene.play(scenario)


def test_a_purpose_may_have_been_observed_a_little_ahead_of_our_clock(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        for ahead_s, status in ((290, 200), (310, 422)):
            at = datetime.now(UTC) + timedelta(seconds=ahead_s)
            given = {"purposes": {"proactive_contact": True}, "observed_at": at.isoformat()}
            assert (await client.put(PATH, json=given)).status_code == status

    scene.play(scenario)


def test_what_is_stated_is_in_the_log_by_the_subjects_hash(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        given = {"purposes": {"emotion": False}, "source": "form", "observed_at": "2026-01-01T10:00:00+01:00"}
        await client.put(PATH, json=given)
        await state(client, emotion=True)

    scene.play(scenario)
    dated, of_now = statements(scene)
    assert (dated.purposes, dated.source) == ({"emotion": False}, "form")
    assert dated.observed_at == datetime(2026, 1, 1, 9, tzinfo=UTC)
    assert of_now.observed_at == of_now.recorded_at > dated.recorded_at
    assert len(dated.subject) == 32
    found = verify(scene.home / "log")
    assert (found.ok, found.consents) == (True, 2)


def test_a_word_of_now_holds_also_where_the_one_before_was_observed_ahead_of_our_clock(scene: Any) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=4)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await client.put(PATH, json={"purposes": {"emotion": True}, "observed_at": ahead.isoformat()})
        assert not (await state(client, emotion=False)).json()["purposes"]["emotion"]["granted"]
        with redis.Redis.from_url(scene.redis_url) as store:
            store.flushall()
        await refill(server)
        assert not (await client.get(PATH)).json()["purposes"]["emotion"]["granted"]

    scene.play(scenario)
    assert statements(scene)[1].observed_at == ahead + timedelta(microseconds=1)


def test_a_statement_that_is_sent_again_changes_nothing(scene: Any) -> None:
    at = "2026-01-01T10:00:00Z"

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        withheld = {"purposes": {"emotion": False}, "observed_at": at}
        first = await client.put(PATH, json=withheld)
        assert (await client.put(PATH, json=withheld)).json() == first.json()
        granted = await state(client, emotion=True)
        assert (await client.put(PATH, json=withheld)).json() == granted.json()
        assert (await state(client, emotion=True)).json() == granted.json()

    scene.play(scenario)


def test_an_emptied_redis_gets_consent_back_with_its_history(own_redis: Any, scene: Any) -> None:
    """Twice: the second time by another server, whose log has two segments."""
    scene.redis_url = own_redis.url
    told: list[Any] = []

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        if not told:
            for granted in (False, True, False):
                await state(client, emotion=granted, personalization=not granted)
        else:
            await state(client, personalization=False)
        before = (await client.get(PATH)).json()
        own_redis.flush()
        await refill(server)
        assert (await client.get(PATH)).json() == before
        told.append(before)

    scene.play(scenario)
    own_redis.flush()
    scene.play(scenario)
    assert [len(found["history"]) for found in told] == [6, 7]


def test_a_restarted_redis_that_forgot_the_last_word_gets_it_back_before_it_is_read(
    own_redis: Any, stored_scene: Any, body: Body
) -> None:
    """It comes back with the epoch key and a consent from before the withdrawal."""
    stored_scene.redis_url = own_redis.url

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        await state(client, personalization=True)
        with redis.Redis.from_url(own_redis.url) as store:
            kept = {key: store.dump(key) for key in store.keys("*")}
            withdrawn = (await state(client, personalization=False)).json()
            own_redis.kill()
            own_redis.start()
            for key, value in kept.items():
                store.restore(key, 0, value)
        await asyncio.sleep(1.05)  # the connections' rest after a failure
        answer = (await client.post("/v1/decide", json=body(decision_id="d-0"))).json()
        assert (answer["degraded"][:2], (await values(client, "d-0"))["nps"]) == (["features", "consent"], None)
        assert (await client.get(PATH)).status_code == 503
        await refill(server)
        assert (await client.get(PATH)).json() == withdrawn
        answer = (await client.post("/v1/decide", json=body(decision_id="d-1"))).json()
        assert (answer["degraded"], (await values(client, "d-1"))["nps"]) == ([], None)

    stored_scene.play(scenario, **SELDOM)


def test_between_the_loss_and_the_refill_nothing_stored_is_read(stored_scene: Any, body: Body) -> None:
    """Redis is emptied, and features come in anew before consent does. u-2 never withheld anything."""

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await state(client, personalization=False)
        with redis.Redis.from_url(stored_scene.redis_url) as store:
            store.flushall()
            await bought(client, "u-381", "u-2")
            store.config_resetstat()
            lost = [body(decision_id="a"), body(decision_id="b", subject_id="u-2")]
            answers = (await client.post("/v1/decide:batch", json={"decisions": lost})).json()["results"]
            reads = store.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]
        assert reads == 0
        assert [answer["degraded"] for answer in answers] == [["features", "consent", "claims"]] * 2
        assert [(await values(client, i))["nps"] for i in "ab"] == [None, None]
        await refill(server)
        back = [body(decision_id="c"), body(decision_id="d", subject_id="u-2")]
        answers = (await client.post("/v1/decide:batch", json={"decisions": back})).json()["results"]
        assert [answer["degraded"] for answer in answers] == [[], []]
        assert [(await values(client, i))["nps"] for i in "cd"] == [None, 7.0]

    stored_scene.play(scenario, **SELDOM)


def test_a_new_installation_with_an_empty_log_knows_that_nobody_withholds(stored_scene: Any, body: Body) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        await bought(client, "u-381")
        assert (await client.post("/v1/decide", json=body(decision_id="d"))).json()["degraded"] == []
        assert (await values(client, "d"))["nps"] == 7.0

    stored_scene.play(scenario, **SELDOM)


def test_what_was_logged_and_never_reached_redis_is_a_503_that_a_refill_brings_in(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the two."""

    async def lost(statement: ConsentRecord) -> Any:
        raise UnavailableError("no answer", help="send it again")

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        with monkeypatch.context() as cut_off:
            cut_off.setattr(server.consents._store, "state", lost)
            told = await client.put(PATH, json={"purposes": {"emotion": False}})
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        assert (await client.get(PATH)).json()["purposes"] == {}
        with redis.Redis.from_url(scene.redis_url) as store:
            store.flushall()
        await refill(server)
        restored = (await client.get(PATH)).json()
        assert not restored["purposes"]["emotion"]["granted"]
        assert (await state(client, emotion=False)).json() == restored  # the retry that was asked for

    scene.play(scenario, **SELDOM)
    assert [record.purposes for record in statements(scene)] == [{"emotion": False}] * 2


def test_what_is_stated_while_redis_is_not_refilled_is_a_503_and_not_lost(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        with redis.Redis.from_url(scene.redis_url) as store:
            store.flushall()
        told = await client.put(PATH, json={"purposes": {"emotion": False}})
        assert (told.status_code, "restored from the log" in told.json()["error"]["message"]) == (503, True)
        await refill(server)
        assert not (await client.get(PATH)).json()["purposes"]["emotion"]["granted"]

    scene.play(scenario, **SELDOM)


def test_what_cannot_be_logged_is_a_503_and_not_stored(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        full: Future[None] = Future()
        full.set_exception(LogError("the disk is full", help="make room"))
        with monkeypatch.context() as failing:
            failing.setattr(server.log, "append", lambda *records: full)
            told = await client.put(PATH, json={"purposes": {"emotion": False}})
        assert (told.status_code, told.headers["retry-after"]) == (503, "1")
        assert "the disk is full" in told.json()["error"]["message"]
        assert (await client.get(PATH)).json()["purposes"] == {}

    scene.play(scenario)
    assert statements(scene) == []
