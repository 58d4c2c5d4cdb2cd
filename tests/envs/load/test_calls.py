"""An app's calls: what passes is made again, what does not is given up, and all of it is counted."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from envs.load.calls import Retry
from nba.pack_file import load_pack
from nba.records import DecisionRecord
from tests.envs.load.driven import play
from tests.envs.load.stub_server import Fault, StubServer, failure

PACK = load_pack("support")


def every(nth: int, what: httpx.Response | Exception) -> Fault:
    return lambda request, number: what if number % nth == 0 else None


@pytest.mark.parametrize("batch", [1, 25])
@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (failure(503, "log_unavailable"), "503 log_unavailable"),
        (failure(429, "overloaded"), "429 overloaded"),
        (httpx.Response(502, text="<html>bad gateway</html>"), "502"),
        (httpx.ConnectError("refused"), "ConnectError"),
        (httpx.ReadError("reset"), "ReadError"),
    ],
)
def test_what_passes_is_retried_until_every_round_is_decided_and_told(
    what: httpx.Response | Exception, kind: str, batch: int
) -> None:
    """Every third request fails: four attempts are enough, and nothing is lost or told twice."""
    calm, rough = StubServer(PACK), StubServer(PACK, every(3, what))
    report = play(rough, batch=batch, concurrency=1)
    play(calm, batch=batch)
    assert (report.decided, report.errors) == (60, {})
    assert sum(report.retried.values()) == len(rough.requests) // 3
    assert set(report.retried) <= {f"decide {kind}", f"reward {kind}"}
    assert sorted(rough.reports) == sorted(calm.reports)


def test_an_answer_that_is_lost_after_it_was_made_is_asked_for_again_by_the_same_id() -> None:
    server = StubServer(PACK)
    made = server.handle

    def lossy(request: httpx.Request) -> httpx.Response:
        response = made(request)
        if len(server.requests) % 2 and request.url.path == "/v1/decide":
            raise httpx.ReadTimeout("the answer is lost")
        return response

    server.transport = httpx.MockTransport(lossy)
    report = play(server, 30, concurrency=1)
    assert report.decided == 30
    assert report.replayed > 0
    assert sum(isinstance(record, DecisionRecord) for record in server.records) == 30


def test_items_of_a_batch_that_cannot_be_decided_now_are_sent_again_alone() -> None:
    server, refused = StubServer(PACK), set[str]()
    decide = server.decide

    def picky(body: dict[str, Any]) -> dict[str, Any]:
        if body["decision_id"].endswith("7") and body["decision_id"] not in refused:
            refused.add(body["decision_id"])
            return {"error": {"code": "unavailable", "message": "", "help": ""}, "fallback_action": "no_action"}
        return decide(body)

    server.decide = picky  # type: ignore[method-assign]
    report = play(server, batch=60, concurrency=1)
    assert (report.decided, report.errors) == (60, {})
    assert report.retried == {"decide unavailable": 6}
    sent = [json.loads(r.content)["decisions"] for r in server.requests if r.url.path.endswith("batch")]
    assert [len(items) for items in sent] == [60, 6]


def test_what_does_not_pass_is_given_up_after_the_last_attempt_and_counted() -> None:
    server = StubServer(PACK, lambda request, number: failure(503, "unavailable") if number > 4 else None)
    report = play(server, 5, concurrency=1, moments=["proactive_nudge"])
    assert 0 < report.decided < 5
    assert report.errors["decide 503 unavailable"] == 5 - report.decided
    assert report.retried["decide 503 unavailable"] == 3 * (5 - report.decided)


def test_what_is_wrong_is_not_retried() -> None:
    server = StubServer(PACK, lambda request, number: failure(422, "invalid") if number == 1 else None)
    report = play(server, 10, concurrency=1)
    assert report.errors == {"decide 422 invalid": 1}
    assert (report.decided, report.retried) == (9, {})


@pytest.mark.parametrize("content", [b"hello", b'{"results": []}', b"{}"])
@pytest.mark.parametrize("batch", [1, 2])
def test_an_answer_that_is_none_is_counted(content: bytes, batch: int) -> None:
    server = StubServer(PACK, lambda request, number: httpx.Response(200, content=content) if number == 1 else None)
    report = play(server, 6, concurrency=1, batch=batch)
    assert report.errors == {"decide not_an_answer": 1}
    assert report.decided == 6 - batch


def test_an_action_of_another_pack_is_counted() -> None:
    alien = httpx.Response(201, json={"action": {"action_id": "sing"}, "policy": {"version": "1"}})
    server = StubServer(PACK, lambda request, number: alien if number == 1 else None)
    assert play(server, 4, concurrency=1).errors == {"decide unknown action sing": 1}


def test_waits_double_up_to_a_bound_and_respect_what_the_server_asks() -> None:
    """0.1, 0.2, 0.4 … at most 4 s, halved at worst by jitter; Retry-After raises the wait, up to the same bound."""
    retry = Retry()
    assert [retry.wait_s(n, 0.0, 1.0) for n in (1, 2, 3, 7)] == pytest.approx([0.1, 0.2, 0.4, 4.0])
    assert retry.wait_s(3, 0.0, 0.0) == pytest.approx(0.2)
    assert retry.wait_s(1, 1.0, 0.5) == 1.0
    assert retry.wait_s(1, 3_600.0, 0.5) == 4.0
