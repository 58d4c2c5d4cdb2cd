"""Who is let in, by the whole application over a real log and Redis, and by the door alone."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from serving import access as access_module
from serving import openapi
from serving.access import Access
from serving.api import Api
from serving.errors import ForbiddenError, RateError, UnauthorizedError, UnavailableNowError
from serving.keys import Key, Role, changing, mint
from serving.lane import Lane
from serving.openapi import OPERATIONS, Operation
from serving.server import Server
from serving.settings import Settings
from tests.conftest import free_port

Body = Callable[..., dict[str, Any]]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
BODIES: dict[str, Any] = {
    "decide_batch": {"decisions": []},
    "reward": {"outcome": "resolved", "value": 1},
    "override": {"action_id": "warm_reply", "actor": "a"},
    "events": {"subject_id": "u", "event": "purchase"},
    "state_consent": {"purposes": {"emotion": False}},
}
# What a key of every role is answered that is for another pack only, where decision `d` is of pack support.
ELSEWHERE = {
    "decide": 403,
    "decide_batch": 200,  # each item by itself
    "reward": 404,
    "activate": 404,
    "override": 404,
    "decision": 404,
    "replay": 404,
    "events": 403,
    "consent": 403,
    "state_consent": 403,
    "policies": 200,  # of its own packs
    "pack": 403,
    "healthz": 200,
    "readyz": 200,
    "metrics": 200,
    "openapi": 200,
    "docs": 200,
}


class Time:
    """Seconds, by hand."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def put(path: Path, *names: str, roles: tuple[Role, ...] = ("decide",), **more: Any) -> list[str]:
    """Adds keys; their tokens."""
    minted = [mint(name, roles, now=NOW, **more) for name in names]
    with changing(path) as keys:
        keys.extend(m.key for m in minted)
    return [m.token for m in minted]


def said(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {token}".encode())]


def door(path: Path, time: Time | None = None, **more: Any) -> Access:
    time = time or Time()
    return Access(path, required=True, clock=time, ticks=time, **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_token_lets_in_whom_it_was_made_for(path: Path) -> None:
    (token,) = put(path, "app")
    assert door(path).admit(said(token), ("decide",)).name == "app"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Basic TOKEN")],
        [(b"authorization", b"Bearer TOKENx")],
        [(b"authorization", b"Bearer \xff_\xff_")],
        [(b"authorization", b"Bearer nba_own_")],
        [(b"authorization", b"Bearer TOKEN"), (b"authorization", b"Bearer TOKEN")],
        [(b"authorization", b"Bearer TOKEN" + b" " * 1_000)],
        [(b"x-authorization", b"Bearer TOKEN")],
    ],
)
def test_whoever_has_no_token_is_not_let_in(path: Path, headers: list[tuple[bytes, bytes]]) -> None:
    token = put(path, "app")[0].encode()
    with pytest.raises(UnauthorizedError) as refused:
        door(path).caller([(name, value.replace(b"TOKEN", token)) for name, value in headers])
    assert token.decode() not in str(refused.value)


def test_the_right_id_with_another_secret_is_not_let_in(path: Path) -> None:
    one, other = put(path, "one", "other")
    with pytest.raises(UnauthorizedError):
        door(path).caller(said(one[:17] + other[17:]))


def test_an_unknown_id_costs_the_same_comparison_as_a_known_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (token,) = put(path, "app")
    compared: list[tuple[int, int]] = []
    digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return digest(a, b)

    access = door(path)
    monkeypatch.setattr("serving.access.hmac.compare_digest", compare)
    access.caller(said(token))
    for wrong in ("nba_000000000000_" + token[17:], token[:-1], "", "x"):
        with pytest.raises(UnauthorizedError):
            access.caller(said(wrong))
    assert compared == [(32, 32)] * 5


def test_a_key_ends_when_it_says_so_and_a_disabled_one_is_none(path: Path) -> None:
    time = Time()
    (token,) = put(path, "app", expires=NOW + timedelta(seconds=10))
    access = door(path, time)
    access.caller(said(token))
    time.now += 10.0
    with pytest.raises(UnauthorizedError, match="expired"):
        access.caller(said(token))
    with changing(path) as keys:
        keys[:] = [_disabled(key) for key in keys]
    with pytest.raises(UnauthorizedError, match="not known"):
        door(path).caller(said(token))


def _disabled(key: Key) -> Key:
    return replace(key, disabled=True, expires=None)


def test_a_changed_file_is_in_force_a_second_later_and_not_looked_at_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    (old,) = put(path, "old")
    access = door(path, time)
    (new,) = put(path, "new")
    with pytest.raises(UnauthorizedError):
        access.caller(said(new))
    time.now += 1.0
    assert access.caller(said(new)).name == "new"
    with changing(path) as keys:
        del keys[0]
    time.now += 1.0
    with pytest.raises(UnauthorizedError):
        access.caller(said(old))


@pytest.mark.parametrize("harm", ["garbage", "mode", "gone"])
def test_a_bad_file_leaves_the_last_good_one_in_force_and_is_told(
    path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    time = Time()
    (token,) = put(path, "app")
    access = door(path, time)
    kept = path.read_bytes()
    if harm == "garbage":
        path.write_bytes(b"{")
    elif harm == "mode":
        path.chmod(0o644)
    else:
        path.unlink()
    time.now += 1.0
    assert access.caller(said(token)).name == "app"
    assert access.trouble.endswith("the last good keys stay in force")
    assert access.trouble in caplog.text
    path.write_bytes(kept)
    path.chmod(0o600)
    time.now += 1.0
    access.caller(said(token))
    assert (access.trouble, access.status) == ("", "1 keys in force")


def test_without_a_good_file_that_is_needed_nobody_is_let_in(path: Path) -> None:
    for _ in range(2):
        access = door(path)
        with pytest.raises(UnavailableNowError):
            access.caller([])
        assert access.trouble.endswith("nobody is let in")
        path.write_bytes(b"{")


def test_a_first_file_closes_an_open_door_for_good(path: Path) -> None:
    time = Time()
    access = Access(path, required=False, clock=time, ticks=time)
    assert access.admit([], ("admin",)).may("any")
    (token,) = put(path, "app")
    time.now += 1.0
    with pytest.raises(UnauthorizedError):
        access.caller([])
    path.unlink()
    time.now += 1.0
    with pytest.raises(UnauthorizedError):
        access.caller([])
    assert access.caller(said(token)).name == "app"


def test_the_burst_is_let_through_and_then_the_rate(path: Path) -> None:
    """2 a second with a burst of 3: at 0 s three, at 0.5 s one more."""
    time = Time()
    (token,) = put(path, "app", rate=2.0, burst=3)
    access = door(path, time)
    for _ in range(3):
        access.admit(said(token), ("decide",))
    with pytest.raises(RateError) as refused:
        access.admit(said(token), ("decide",))
    assert refused.value.retry_after_s == 1
    time.now += 0.5
    access.admit(said(token), ("decide",))
    with pytest.raises(RateError):
        access.admit(said(token), ("decide",))


def test_a_batch_counts_its_items_into_debt(path: Path) -> None:
    """1 a second, a burst of 2: a batch of 12 is let in, and the next request 11 s later."""
    time = Time()
    (token,) = put(path, "app", rate=1.0, burst=2)
    access = door(path, time)
    access.admit(said(token), ("decide",)).spend_more(11)
    with pytest.raises(RateError) as refused:
        access.admit(said(token), ("decide",))
    assert refused.value.retry_after_s == 11
    put(path, "other")
    time.now += 10.9
    with pytest.raises(RateError):  # what was used up outlives a change of the file
        access.admit(said(token), ("decide",))
    time.now += 0.1
    access.admit(said(token), ("decide",))


def test_a_missing_role_is_named(path: Path) -> None:
    (token,) = put(path, "app")
    with pytest.raises(ForbiddenError, match="lacks the role: reward or admin"):
        door(path).admit(said(token), ("reward", "admin"))


def test_a_pack_out_of_scope_is_refused_whether_it_exists_or_not(path: Path) -> None:
    (token,) = put(path, "app", packs=("sales",))
    caller = door(path).caller(said(token))
    caller.refuse_pack("sales")
    caller.refuse_part(["sales"])
    for refuse in (lambda: caller.refuse_pack("support"), lambda: caller.refuse_part(["sales", "support"])):
        with pytest.raises(ForbiddenError):
            refuse()


async def ask(client: httpx.AsyncClient, operation: Operation, body: Body, token: str | None) -> httpx.Response:
    path = operation.path.format(decision_id="d", subject_id="u", pack="support")
    asked = body(decision_id="d2") if operation.name == "decide" else BODIES.get(operation.name)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return await client.request(operation.method, path, json=asked, headers=headers)


def test_every_operation_wants_its_role_and_no_other_will_do(
    stored_scene: Any, body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    file = stored_scene.home / "keys.json"
    tokens = {role: put(file, role, roles=(role,))[0] for role in ("decide", "reward", "admin")}
    caplog.set_level(logging.DEBUG)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        first = {"authorization": f"Bearer {tokens['decide']}"}
        assert (await client.post("/v1/decide", json=body(decision_id="d"), headers=first)).status_code == 201
        for operation in OPERATIONS:
            for wrong in (None, "nba_000000000000_x"):
                refused = await ask(client, operation, body, wrong)
                assert (refused.status_code == 401) == bool(operation.roles), operation.path
                if operation.roles:
                    assert refused.headers["www-authenticate"] == "Bearer"
            for role, token in tokens.items():
                answer = await ask(client, operation, body, token)
                may = not operation.roles or role in operation.roles
                assert (answer.status_code < 300) if may else (answer.status_code == 403), (operation.path, role)
                assert token not in answer.text
        page = (await client.get("/metrics", headers={"authorization": f"Bearer {tokens['admin']}"})).text
        assert 'key="none",outcome="unauthorized"}' in page
        assert 'key="reward",outcome="forbidden"}' in page
        assert 'key="decide",outcome="admitted"}' in page

    stored_scene.play(scenario)
    assert not any(token in caplog.text for token in tokens.values())


def test_a_key_of_another_pack_reaches_nothing_of_this_one(stored_scene: Any, body: Body) -> None:
    file = stored_scene.home / "keys.json"
    (mine,) = put(file, "mine", roles=("decide", "reward", "admin"), packs=("support",))
    (other,) = put(file, "other", roles=("decide", "reward", "admin"), packs=("sales",))

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        headers = {"authorization": f"Bearer {mine}"}
        assert (await client.post("/v1/decide", json=body(decision_id="d"), headers=headers)).status_code == 201
        answers = {o.name: (await ask(client, o, body, other)).status_code for o in OPERATIONS}
        assert answers == ELSEWHERE
        unknown = await client.get("/v1/decisions/e", headers={"authorization": f"Bearer {other}"})
        hidden = await client.get("/v1/decisions/d", headers={"authorization": f"Bearer {other}"})
        assert hidden.text == unknown.text.replace("'e'", "'d'")
        policies = await client.get("/v1/policies", headers={"authorization": f"Bearer {other}"})
        assert policies.json() == {"policies": []}
        items = {"decisions": [body(), body(pack="sales"), {}]}
        batch = await client.post("/v1/decide:batch", json=items, headers={"authorization": f"Bearer {other}"})
        codes = [result["error"]["code"] for result in batch.json()["results"]]
        assert codes == ["forbidden", "unknown_pack", "invalid"]
        for operation in OPERATIONS:
            assert (await ask(client, operation, body, mine)).status_code < 300, operation.path

    stored_scene.play(scenario)


def test_a_key_that_asks_too_much_is_told_when_to_come_back(scene: Any, body: Body) -> None:
    (token,) = put(scene.home / "keys.json", "app", rate=0.1, burst=3)

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        headers = {"authorization": f"Bearer {token}"}
        batch = await client.post("/v1/decide:batch", json={"decisions": [body()] * 3}, headers=headers)
        assert batch.status_code == 200
        refused = await client.post("/v1/decide", json=body(), headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
        assert 9 <= int(refused.headers["retry-after"]) <= 10

    scene.play(scenario)


def test_the_fast_lane_asks_for_the_same_keys(scene: Any, body: Body) -> None:
    (token,) = put(scene.home / "keys.json", "app")

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        port = free_port()
        lane = Lane(Api(server), Settings(home=server.settings.home, fast_port=port))
        await lane.open()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as fast:
                assert (await fast.post("/v1/decide", json=body())).status_code == 401
                headers = {"authorization": f"bearer {token}"}
                assert (await fast.post("/v1/decide", json=body(), headers=headers)).status_code == 201
        finally:
            await lane.drain()

    scene.play(scenario)


def test_ready_says_only_whether_to_whoever_has_no_key(stored_scene: Any) -> None:
    (token,) = put(stored_scene.home / "keys.json", "app")

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        known = await client.get("/readyz", headers={"authorization": f"Bearer {token}"})
        assert known.json()["keys"] == "1 keys in force"
        own = access_module.own_token(server.home.secret("own"))
        assert "policies" in (await client.get("/readyz", headers={"authorization": f"Bearer {own}"})).json()
        assert (await client.get("/v1/policies", headers={"authorization": f"Bearer {own}"})).status_code == 403

    stored_scene.play(scenario)


def test_the_description_has_keys_exactly_where_there_are_some(scene: Any) -> None:
    open_document, closed = openapi.document("1"), openapi.document("1", keys=True)
    assert "securitySchemes" not in open_document["components"]
    for operation in OPERATIONS:
        without = open_document["paths"][operation.path][operation.method.lower()]
        guarded = closed["paths"][operation.path][operation.method.lower()]
        assert "security" not in without
        assert ("security" in guarded) == bool(operation.roles)
        assert ({"401", "403", "429"} <= set(guarded["responses"])) == bool(operation.roles)
    put(scene.home / "keys.json", "app")

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        assert (await client.get("/openapi.json")).json()["paths"] == closed["paths"]

    scene.play(scenario)


def test_an_operation_without_roles_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="roles"):
        Operation("GET", "/new", "new", "It is new.", {})  # type: ignore[call-arg]


@pytest.mark.parametrize("path", ["/v1/decisions/%0Aforged", "/v1/decisions/" + "x" * 129, "/v1/decisions/a%20b"])
def test_what_is_no_decision_id_reaches_no_store(scene: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        async def find(decision_id: str) -> Any:
            raise AssertionError(decision_id)

        monkeypatch.setattr(server.claims, "find", find)
        answer = await client.get(path)
        assert answer.status_code == 404
        assert "\n" not in answer.json()["error"]["message"]
        assert len(answer.json()["error"]["message"]) < 128

    scene.play(scenario)
