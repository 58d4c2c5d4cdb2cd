"""Bodies of every type, changed at random: an error of the contract or an answer, never anything else."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import httpx
import pytest

from nba.errors import NbaError
from serving import wire
from serving.answers import error_answer
from serving.errors import status_of
from tests.fuzz.conftest import Effort
from tests.fuzz.mutation import JSON, mutated, regrown

DECIDE = {
    "decision_id": "d-1",
    "subject_id": "u-381",
    "pack": "support",
    "moment": "tone_tuner",
    "session_id": "s-9",
    "context": {"channel": "chat", "local_time": "2026-11-21T08:30:00+01:00", "sentiment": -0.6, "device": "mobile"},
    "consent": {"personalization": True},
    "actions": ["warm_reply", "neutral_reply", "no_action"],
    "exclude": ["neutral_reply"],
    "baseline_action": "warm_reply",
    "timeout_ms": 5_000,
}
AT = "2026-11-21T08:30:00Z"
BODIES: dict[type[Any], tuple[str, str, Any]] = {  # where each goes
    wire.DecideBody: ("POST", "/v1/decide", DECIDE),
    wire.BatchBody: ("POST", "/v1/decide:batch", {"decisions": [DECIDE, {"subject_id": "u", "moment": "tone_tuner"}]}),
    wire.RewardBody: (
        "POST",
        "/v1/decisions/known/rewards",
        {"outcome": "resolved", "value": 1.0, "observed_at": AT, "idempotency_key": "r-991"},
    ),
    wire.ActivateBody: ("POST", "/v1/decisions/known/activate", {"activated_at": AT}),
    wire.OverrideBody: ("POST", "/v1/decisions/known/override", {"action_id": "warm_reply", "actor": "agent 7"}),
    wire.EventBody: (
        "POST",
        "/v1/events",
        [{"subject_id": "u", "event": "nps", "value": 7, "occurred_at": AT, "event_id": "e"}],
    ),
    wire.ConsentBody: (
        "PUT",
        "/v1/subjects/u/consent",
        {"purposes": {"emotion": False}, "source": "form", "observed_at": AT},
    ),
}
STRANGE = (None, True, 0, -1, 2**63, 2**64, 10**400, 1e308, -0.0, "", "\ud800", "\0", "é" * 200, "x" * 200, [], {})
TIMES = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T00:00:00Z", "2026-11-21T08:30:00")
LONGEST_SAID = 2_000  # characters of an error: what a stranger sent is repeated cut short


def changed(body: Any, rng: random.Random) -> bytes:
    """Half of them JSON still, with another value somewhere."""
    if rng.random() < 0.5:
        return mutated(json.dumps(body).encode(), rng, JSON)
    return json.dumps(regrown(body, rng, (*STRANGE, *TIMES))).encode()


def read(kind: type[Any], raw: bytes) -> list[Any]:
    if kind is wire.BatchBody:
        return list(wire.read_batch(raw))
    return [wire.read_events(raw) if kind is wire.EventBody else wire.read_body(raw, kind)]


@pytest.mark.parametrize("kind", BODIES, ids=lambda kind: kind.__name__)
def test_a_body_is_read_or_refused_in_the_words_of_the_contract(kind: type[Any], effort: Effort) -> None:
    for rng in effort.tries(300):
        raw = changed(BODIES[kind][2], rng)
        try:
            found = read(kind, raw)
        except NbaError as error:
            found = [error]
        for error in found:
            if isinstance(error, NbaError):
                assert status_of(error) in (400, 422)
                assert len(wire.encode(error_answer(error))) < LONGEST_SAID, raw


def test_the_server_never_fails_at_a_body(served: str, effort: Effort) -> None:
    """Of its 5xx only 503 is in the contract, and nothing that it needs is away here."""
    with httpx.Client(base_url=served, trust_env=False, timeout=10.0) as client:
        known = {"decision_id": "known", "subject_id": "u", "moment": "tone_tuner"}
        assert client.post("/v1/decide", json=known).status_code in (200, 201)
        for rng in effort.tries(400):
            method, path, body = BODIES[rng.choice(list(BODIES))]
            raw = changed(body, rng)
            answer = client.request(method, path, content=raw)
            assert answer.status_code in (200, 201, 202, 400, 404, 409, 413, 422, 429), (method, path, raw, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) >= {"code", "message", "help"}
        for path in ("/v1/decisions/known", "/v1/subjects/u/consent", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200, path


def test_the_fast_lane_answers_or_hangs_up_whatever_comes(served: str, effort: Effort) -> None:
    """A client that ends its request and listens gets an end within seconds."""
    url = httpx.URL(served)
    body = json.dumps(DECIDE).encode()
    head = b"POST /v1/decide HTTP/1.1\r\nHost: nba\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    words = (
        b"\r\n",
        b"\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"GET ",
    )
    for rng in effort.tries(200):
        with socket.create_connection((url.host, url.port or 0), timeout=10.0) as connection:
            connection.sendall(mutated(head % len(body) + body, rng, words) + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(65_536):
                    pass
            except ConnectionResetError:
                pass
    assert httpx.get(f"{served}/healthz", trust_env=False).status_code == 200
