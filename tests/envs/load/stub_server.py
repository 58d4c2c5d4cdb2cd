"""A server without a socket: the contract as far as a drive uses it, and the facts behind every decision."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from features.online import FeatureRow
from nba.decide import decide_many
from nba.decision import PolicyRef
from nba.facts import code_facts
from nba.pack import Pack
from nba.policies.uniform import Uniform
from nba.records import DecisionRecord, Record, RewardRecord, Shown
from nba.snapshot import Snapshot
from nba.types import Facts
from serving.intake import NOTHING_STORED, read_purposes
from serving.wire import DecideBody
from tests.envs.served import Served

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
Fault = Callable[[httpx.Request, int], httpx.Response | Exception | None]  # request and its number -> what goes wrong


class StubServer:
    """Decides with the uniform policy, by the server's own intake, on what it keeps of customers."""

    def __init__(self, pack: Pack, fault: Fault | None = None) -> None:
        policy = PolicyRef(name=pack.pack, version="7", kind="uniform", digest="")
        self.pack, self.snapshot = pack, Snapshot.of(pack, policy, {moment: Uniform() for moment in pack.moments})
        self.served, self.fault = Served(pack), fault
        self.requests: list[httpx.Request] = []
        self.bodies: dict[str, Any] = {}
        self.records: list[Record] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, str, float, str]] = []
        self.facts: dict[str, Facts] = {}  # decision id -> coded (f,)
        self.events: dict[str, dict[str, str]] = {}  # subject -> event id -> event
        self.withheld: dict[str, set[str]] = {}  # subject -> purposes
        self.stated: list[tuple[str, dict[str, bool]]] = []
        self.transport = httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        self.requests.append(request)
        wrong = self.fault(request, len(self.requests)) if self.fault else None
        if isinstance(wrong, Exception):
            raise wrong
        if wrong is not None:
            return wrong
        body, path = msgspec.json.decode(request.content), request.url.path
        if path == "/v1/decide":
            return httpx.Response(201, json=self.decide(body))
        if path == "/v1/decide:batch":
            return httpx.Response(200, json={"results": [self.decide(item) for item in body["decisions"]]})
        if path == "/v1/events":
            return self.happened(body)
        if path.endswith("/consent"):
            return self.state(request.method, path.split("/")[3], body)
        return self.reward(path.split("/")[3], body)

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        """One decision, or the stored one."""
        decision_id = body["decision_id"]
        if decision_id in self.answers:
            assert self.bodies[decision_id] == body
            return self.answers[decision_id] | {"replayed": True}
        self.bodies[decision_id] = body
        asked = self.served.intake.ask(msgspec.json.decode(msgspec.json.encode(body), type=DecideBody))
        row = self.row(body["subject_id"]) if asked.heeds_consent else NOTHING_STORED
        stored = row if asked.reads_stored else FeatureRow({}, {}, row.withheld)
        request = self.served.intake.request(asked, stored, degraded=False, now=START)
        assert not request.ignored
        assert not set(body["context"]) & set(self.served.population.fields)
        fields = self.pack.moment_fields(body["moment"])
        self.facts[decision_id] = code_facts(fields, [request.context.values])[0]
        decision = decide_many(self.snapshot, [request], now=START, secret=b"k")[0]
        shown = Shown(layer="", channel="", message=None, delay_ms=0, closes_at=START, default_reward=0.0)
        self.records.append(DecisionRecord(decision=decision, shown=shown, fingerprint="", epoch=0))
        self.answers[decision_id] = {
            "decision_id": decision_id,
            "action": {"action_id": decision.action_id, "layer": "procedural"},
            "policy": {"name": self.pack.pack, "version": "7", "kind": "uniform", "arm": "champion"},
            "degraded": [],
            "replayed": False,
        }
        return self.answers[decision_id]

    def row(self, subject_id: str) -> FeatureRow:
        """What is read of a customer: nothing stored where a purpose of the read is withheld."""
        withheld = frozenset(self.withheld.get(subject_id, ()))
        if withheld & read_purposes(self.pack):
            return FeatureRow({}, {}, withheld)
        return FeatureRow(self.history(subject_id), {}, withheld)

    def history(self, subject_id: str) -> dict[str, Any]:
        """The stored values of a customer: the seeded ones, with the events counted on top."""
        values = dict(self.served.stored(subject_id).values)
        for event in self.events.get(subject_id, {}).values():
            if event in ("purchase", "contact"):
                field = {"purchase": "purchases_90d", "contact": "contacts_30d"}[event]
                values[field] = values.get(field, 0) + 1
            elif event == "case_opened":
                values["open_cases"] = values.get("open_cases", 0) + 1
            else:
                values["open_cases"] = max(0, values.get("open_cases", 0) - 1)
        return {name: value for name, value in values.items() if name in self.pack.fields}

    def happened(self, body: dict[str, Any]) -> httpx.Response:
        """One event; one that came before is a duplicate."""
        assert set(body) == {"subject_id", "event", "event_id"}
        mine = self.events.setdefault(body["subject_id"], {})
        new = body["event_id"] not in mine
        mine.setdefault(body["event_id"], body["event"])
        return httpx.Response(202, json={"accepted": int(new), "duplicates": int(not new)})

    def state(self, method: str, subject_id: str, body: dict[str, Any]) -> httpx.Response:
        """A word on consent."""
        assert method == "PUT"
        withheld = self.withheld.setdefault(subject_id, set())
        for purpose, granted in body["purposes"].items():
            (withheld.discard if granted else withheld.add)(purpose)
        self.stated.append((subject_id, body["purposes"]))
        return httpx.Response(200, json={"subject_id": subject_id, "purposes": {}, "history": []})

    def reward(self, decision_id: str, body: dict[str, Any]) -> httpx.Response:
        """One outcome."""
        if decision_id not in self.answers:
            return failure(404, "unknown_decision")
        self.reports.append((decision_id, body["outcome"], body["value"], body["idempotency_key"]))
        at = START + timedelta(milliseconds=len(self.reports))
        self.records.append(
            RewardRecord(
                decision_id=decision_id,
                outcome=body["outcome"],
                value=body["value"],
                observed_at=at,
                idempotency_key=body["idempotency_key"],
                received_at=at,
            )
        )
        return httpx.Response(202, json={"status": "joined"})

    def told(self, decision_id: str) -> list[tuple[str, float]]:
        """The outcomes reported of a decision, in the order in which they came."""
        return [(outcome, value) for of, outcome, value, _ in self.reports if of == decision_id]


def failure(status: int, code: str, **headers: str) -> httpx.Response:
    """An error as the contract has it."""
    return httpx.Response(status, json={"error": {"code": code, "message": "no", "help": "wait"}}, headers=headers)
