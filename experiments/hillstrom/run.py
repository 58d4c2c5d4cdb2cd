"""The loop on real customers: a randomised e-mail test, replayed through a running server.

    python experiments/hillstrom/run.py --data hillstrom.csv

Starts a server of its own, with all its state in a new folder, and stops it at the end. See README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from features.redis_server import RedisServer
from nba import ope
from nba.facts import code_facts
from nba.home import Home
from nba.moment_plan import MomentPlan, plan_moment
from nba.ope import Terms
from nba.pack import Pack
from nba.pack_file import load_pack
from nba.rounds import LoggedRounds
from nba.types import NO_ACTION, Distribution
from serving.launch import start
from serving.settings import Settings
from training.assess import Assessment, assess
from training.gate import Gate
from training.promote import promote
from training.tracking import CHAMPION, Tracking
from training.train import train_on_log, train_without_rounds
from training.window import Split, freeze

PACK = Path(__file__).with_name("pack.yaml")
MOMENT = "campaign"
ACTIONS = {"No E-Mail": NO_ACTION, "Mens E-Mail": "mens_email", "Womens E-Mail": "womens_email"}
BATCH = 500  # decisions a call
HISTORY_CAP = 1_000.0  # USD; the pack's range
SPLIT = Split(share=0.65)  # of the customers, learned from; the rest judge
GATE = Gate(
    min_effective_n=500.0
)  # the whole test is small: a third of its customers, and a third of those to judge by


@dataclass(frozen=True, slots=True)
class Customer:
    """One row of the test: what was known, what was sent, what came of it."""

    subject_id: str
    context: dict[str, Any]
    action: str
    visited: float


@dataclass(frozen=True, slots=True)
class Served:
    """What the server did for some customers."""

    version: str
    actions: list[str]
    distribution: Distribution  # (n, k)
    degraded: dict[str, int]  # what had failed -> decisions


def main() -> None:
    """Runs the whole loop and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="hillstrom.csv; README.md says where it is from")
    parser.add_argument("--rows", type=int, help="only the first so many customers (default: all)")
    parser.add_argument("--port", type=int, default=8010)
    parser.add_argument("--json", type=Path, help="write the result there as well")
    asked = parser.parse_args()
    customers = read_customers(asked.data)[: asked.rows]
    with tempfile.TemporaryDirectory(prefix="nba-hillstrom-") as folder:
        result = run(customers, Home(Path(folder)), asked.port)
    show(result)
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def read_customers(path: Path) -> list[Customer]:
    """The customers of the file in a shuffled order that is always the same (the file may be sorted)."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        sys.exit(f"error: cannot read {path}: {error.strerror}\nhelp:  README.md beside this file says how to get it")
    order = np.random.default_rng(2008).permutation(len(rows))
    return [_customer(i, rows[i]) for i in order]


def _customer(i: int, row: dict[str, str]) -> Customer:
    context = {
        "recency": float(row["recency"]),
        "history": min(float(row["history"]), HISTORY_CAP),
        "history_segment": row["history_segment"],
        "mens": row["mens"] == "1",
        "womens": row["womens"] == "1",
        "newbie": row["newbie"] == "1",
        "zip_code": row["zip_code"],
        "channel": row["channel"],
    }
    return Customer(f"customer-{i}", context, ACTIONS[row["segment"]], float(row["visit"]))


def run(customers: list[Customer], home: Home, port: int) -> dict[str, Any]:
    """The loop: serve the first half evenly, learn, judge, promote or not, serve the second half, compare."""
    pack, tracking = load_pack(PACK), Tracking.of(home)
    half = len(customers) // 2
    with ExitStack() as running:
        redis = running.enter_context(RedisServer.start(home))
        first = train_without_rounds(home, tracking, pack, "uniform")
        promote(home, tracking, pack, first, verdict=None, at=datetime.now(UTC), actor="experiment")
        server = start(Settings(home=home.path, packs=(str(PACK),), redis_url=redis.url, port=port))
        running.callback(server.stop)
        say(f"serving on {server.url}; the first {half:,} customers, evenly")
        even = asyncio.run(serve(server.url, customers[:half], "first"))
        if even.degraded:
            say(f"degraded decisions: {even.degraded}")
        assessment = learn_and_judge(home, tracking, pack)
        say(f"gate: {'promote' if assessment.verdict.promote else 'refuse'}: {'; '.join(assessment.verdict.reasons)}")
        if assessment.verdict.promote:
            version, verdict = assessment.version, assessment.verdict
            promote(home, tracking, pack, version, verdict=verdict, at=datetime.now(UTC), actor="experiment")
            wait_for(server.url, version.version)
        say(f"the other {len(customers) - half:,} customers")
        served = asyncio.run(serve(server.url, customers[half:], "second"))
    return compare(customers[half:], served, plan_moment(pack, MOMENT), assessment)


async def serve(url: str, customers: list[Customer], run_name: str) -> Served:
    """Asks for every customer; what equals the e-mail that was really sent is activated and gets its real outcome.

    The e-mail was drawn evenly and by itself, so the customers that remain are a fair sample, and among them the
    server's propensities hold (Li et al. 2011, https://arxiv.org/abs/1003.5956).
    """
    answers: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
        for begin in range(0, len(customers), BATCH):
            batch = customers[begin : begin + BATCH]
            bodies = [_decide_body(f"{run_name}-{begin + i}", customer) for i, customer in enumerate(batch)]
            response = await client.post("/v1/decide:batch", json={"decisions": bodies})
            response.raise_for_status()
            results = response.json()["results"]
            if any("error" in result for result in results):
                sys.exit(f"error: a decision failed: {next(r for r in results if 'error' in r)}")
            answers += results
            matched = [
                (f"{run_name}-{begin + i}", customer.visited)
                for i, (customer, result) in enumerate(zip(batch, results, strict=True))
                if result["action"]["action_id"] == customer.action
            ]
            await _report(client, matched)
            if sys.stdout.isatty():
                say(f"  {begin + len(batch):,} of {len(customers):,}", end="\r")
    versions = {answer["policy"]["version"] for answer in answers}
    if len(versions) != 1:
        sys.exit(f"error: versions {sorted(versions)} served one half; they should not mix")
    ids = list(ACTIONS.values())
    distribution = np.array([[answer["distribution"].get(a, 0.0) for a in ids] for answer in answers])
    degraded = Counter(cause for answer in answers for cause in answer["degraded"])
    return Served(versions.pop(), [a["action"]["action_id"] for a in answers], distribution, dict(degraded))


def _decide_body(decision_id: str, customer: Customer) -> dict[str, Any]:
    return {
        "decision_id": decision_id,
        "subject_id": customer.subject_id,
        "moment": MOMENT,
        "context": customer.context,
        "defer_activation": True,
    }


async def _report(client: httpx.AsyncClient, matched: Iterable[tuple[str, float]]) -> None:
    slots = asyncio.Semaphore(16)

    async def report(decision_id: str, visited: float) -> None:
        async with slots:
            for path, body in (("activate", {}), ("rewards", {"outcome": "visit", "value": visited})):
                response = await client.post(f"/v1/decisions/{decision_id}/{path}", json=body)
                response.raise_for_status()

    async with asyncio.TaskGroup() as group:
        for decision_id, visited in matched:
            group.create_task(report(decision_id, visited))


def learn_and_judge(home: Home, tracking: Tracking, pack: Pack) -> Assessment:
    """The better of the pack's candidates, learned from one part of the log's customers and judged on the other."""
    window = freeze(home.log, pack, as_of=datetime.now(UTC))
    champion = tracking.aliased(pack.pack, CHAMPION)
    say(f"{len(window):,} customers got what the server chose; learning from {SPLIT.share:.0%} of them")
    judged = []
    for kind in pack.candidates:
        version = train_on_log(home, tracking, pack, kind, window, split=SPLIT, prior=None)
        rng = np.random.default_rng(0)
        judged.append(assess(home, tracking, pack, version, champion, window, gate=GATE, rng=rng))
    return max(judged, key=lambda a: a.evaluation.overall.doubly_robust.value)


def wait_for(url: str, version: str, *, timeout_s: float = 30.0) -> None:
    """Returns once the server has swapped to the version."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        serving = httpx.get(f"{url}/v1/policies").json()["policies"][0]["policy"]
        if serving["version"] == version:
            return
        time.sleep(0.2)
    sys.exit(f"error: version {version} does not serve after {timeout_s:g} s")


def compare(customers: list[Customer], served: Served, plan: MomentPlan, assessment: Assessment) -> dict[str, Any]:
    """Visits a customer under each policy, by replay and doubly robust, on customers no policy has learned from."""
    ids = list(ACTIONS.values())
    rounds = _as_rounds(customers, plan)
    n, k = rounds.mask.shape
    rng = np.random.default_rng(0)
    evenly = np.full((n, k), 1.0 / k)
    policies: dict[str, tuple[Distribution, Callable[[], Any]]] = {
        "uniform": (evenly, lambda: rng.integers(0, k, n)),
        "always men's": (_always(ids.index("mens_email"), n, k), lambda: np.full(n, ids.index("mens_email"))),
        "always women's": (_always(ids.index("womens_email"), n, k), lambda: np.full(n, ids.index("womens_email"))),
        f"served (version {served.version})": (
            served.distribution,
            lambda: np.array([ids.index(action) for action in served.actions]),
        ),
    }
    q_hat = ope.cross_fit(rounds, plan.action_features)
    table = {}
    for name, (distribution, choices) in policies.items():
        matched = choices() == rounds.actions
        by_replay = ope.ips(Terms.logged(rounds.take(matched)), rng=rng)
        by_model = ope.doubly_robust(Terms.of(rounds, distribution, q_hat), rng=rng)
        table[name] = {"replay": asdict(by_replay), "doubly_robust": asdict(by_model)}
    mine = Terms.of(rounds, served.distribution, q_hat)
    lifts = {
        name: asdict(ope.lift(mine, Terms.of(rounds, distribution, q_hat), rng=rng))
        for name, (distribution, _) in policies.items()
        if distribution is not served.distribution
    }
    return {
        "customers": n,
        "promoted": assessment.verdict.promote,
        "kind": assessment.version.kind,
        "reasons": list(assessment.verdict.reasons),
        "visits_a_customer": table,
        "lift_of_the_served_policy_over": lifts,
        "degraded": served.degraded,
    }


def _as_rounds(customers: list[Customer], plan: MomentPlan) -> LoggedRounds:
    """The test itself as logged rounds: every e-mail was drawn with probability 1/3."""
    ids, n = list(ACTIONS.values()), len(customers)
    return LoggedRounds(
        contexts=plan.encoder.encode(code_facts(plan.encoder.fields, [c.context for c in customers])),
        mask=np.ones((n, len(ids)), dtype=np.bool_),
        actions=np.array([ids.index(c.action) for c in customers], dtype=np.int64),
        propensities=np.full(n, 1.0 / len(ids)),
        rewards=np.array([c.visited for c in customers]),
        subjects=np.arange(n, dtype=np.uint64),
    )


def _always(column: int, n: int, k: int) -> Distribution:
    distribution = np.zeros((n, k))
    distribution[:, column] = 1.0
    return distribution


def show(result: dict[str, Any]) -> None:
    """The table."""
    say(f"\nvisits a customer, {result['customers']:,} customers that nothing was learned from, 95 % intervals")
    say(f"{'policy':<24}{'replay':>28}{'doubly robust':>28}")
    for name, estimates in result["visits_a_customer"].items():
        say(f"{name:<24}{_shown(estimates['replay']):>28}{_shown(estimates['doubly_robust']):>28}")
    for name, lift in result["lift_of_the_served_policy_over"].items():
        say(f"{'served - ' + name:<24}{'':>28}{_shown(lift):>28}")
    if result["degraded"]:
        say(f"degraded decisions: {result['degraded']}")


def _shown(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"


def say(text: str, *, end: str = "\n") -> None:
    """For people who wait."""
    print(text, end=end, flush=True)


if __name__ == "__main__":
    main()
