"""What the server believes: its clock, and the features that others store."""

from __future__ import annotations

import json
import math
from collections import Counter

from client import Load
from fault import Fault, Watch, patient, quantile
from ground import Ground, double
from prove import decisions, prove
from replicas import asked

JUMPS_S = (86_400.0, -86_400.0, 3_600.0, -1.0, 0.0)


def _clock(ground: Ground, watch: Watch) -> None:
    """A day forward, a day back, an hour forward, a second back, right again; under load."""
    replica = ground.started()
    seconds = list[float]()
    with Load([replica.url], "clock", clients=3) as load:
        load.answered(20, 30.0)
        for jump in JUMPS_S:
            ground.ill("clock", str(jump))
            timed = len(load.ledger.seconds)
            load.answered(30, 30.0)
            seconds += load.ledger.seconds[timed:]
        degraded = Counter(word for told in load.ledger.answers for word in told["degraded"])
    watch.check(f"{len(load.ledger.answers)} answers, refused {dict(load.ledger.refused)}", not load.ledger.refused)
    watch.check(
        f"p99 {quantile(seconds, 0.99) * 1e3:.0f} ms, degraded {dict(degraded)}", quantile(seconds, 0.99) < patient(0.5)
    )
    first = load.ledger.answers[0]
    with replica.client() as client:
        again = client.get(f"/v1/decisions/{first['decision_id']}")
    watch.check("decisions of before are found", again.status_code == 200)
    # A report that was observed by a clock behind its decision's is early, and no reward: that is told apart.
    proof = prove(ground, [load.ledger])
    early = proof.bad_rewards
    proof.bad_rewards = 0
    watch.check(f"{proof}; {early} rounds whose reports a jump put before or long after their decision", proof.ok)
    watch.check("few of them", early <= 3 * len(JUMPS_S))


def _rubbish(ground: Ground, watch: Watch) -> None:
    """Features that are not finite, of another type, out of range, cut short, stale, of the future."""
    replica = ground.started()
    good = double(5.0)
    cases: dict[str, tuple[dict[str, bytes], float, float | None]] = {
        "good": ({"visits": good, "spent": double(10.0)}, 60.0, 5.0),
        "nan": ({"visits": double(math.nan), "spent": double(10.0)}, 60.0, None),
        "inf": ({"visits": double(math.inf)}, 60.0, None),
        "text": ({"visits": b"\x12\x03abc"}, 60.0, None),
        "cut": ({"visits": good[:4]}, 60.0, None),
        "range": ({"visits": double(-7.0)}, 60.0, None),
        "stale": ({"visits": good}, 2 * 86_400.0, None),
        "future": ({"visits": good}, -3_600.0, None),
    }
    for name, (values, age_s, _) in cases.items():
        ground.store(f"u-{name}", age_s=age_s, **values)
    with ground.redis.client() as client:
        client.set(b"chaos-\x06\x00\x00\x00u-listchaos", b"not a hash")
    codes, seen = dict[str, int](), dict[str, float | None]()
    with replica.client() as client:
        for name in (*cases, "list", "unknown"):
            told = client.post("/v1/decide", json={**asked(f"f-{name}"), "subject_id": f"u-{name}"})
            codes[name] = told.status_code
            record = client.get(f"/v1/decisions/f-{name}").json()["record"]
            seen[name] = record["decision"]["request"]["context"]["values"]["visits"]
        watch.check("ready", client.get("/readyz").json()["status"] == "ready")
    wanted = {name: value for name, (_, _, value) in cases.items()} | {"list": None, "unknown": None}
    watch.check(f"201 for all: {sorted(set(codes.values()))}", set(codes.values()) == {201})
    watch.check(f"only what is good is used: { {n: v for n, v in seen.items() if v is not None} }", seen == wanted)
    text = json.dumps([list(r.decision.context.values.values()) for r in decisions(ground.home.log)])
    watch.check("nothing in the log is not finite", "NaN" not in text and "Infinity" not in text)


FAULTS = (
    Fault(
        "facts",
        "a clock that jumps",
        "the replica's clock a day ahead, a day behind, an hour ahead, a second behind, under load",
        "no request fails or waits; order by the log, not by wall time; only reports across a jump are early or late",
        _clock,
    ),
    Fault(
        "facts",
        "stored features that are rubbish",
        "NaN, infinity, text, cut short, out of range, stale, future-dated, a key of another type in Redis",
        "201, the field missing; nothing of it in the log",
        _rubbish,
    ),
)
