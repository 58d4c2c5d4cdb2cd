"""Vowpal Wabbit behind the fastest bare ASGI server; runs in an environment of its own (peers.txt).

    python vw.py PORT

A contextual bandit over seven actions with the request's facts: predict and sample. No stored features, no log.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import uvicorn
from vowpalwabbit import Workspace

ACTIONS = ["no_action", "neutral", "warm", "empathetic_1", "empathetic_2", "empathetic_3", "formal"]
learner = Workspace("--cb_explore_adf --squarecb -q CA --quiet")


def example(context: dict[str, Any], taken: tuple[int, float, float] | None = None) -> list[str]:
    """A decision in VW's own words; with what was taken, at what cost and probability, something to learn."""
    facts = " ".join(
        f"{n}:{v}" if isinstance(v, int | float) else f"{n}={v}".replace(":", "_") for n, v in context.items()
    )
    lines = [f"shared |C {facts}"]
    for i, action in enumerate(ACTIONS):
        label = f"{i}:{taken[1]}:{taken[2]} " if taken is not None and taken[0] == i else ""
        lines.append(f"{label}|A {action}")
    return lines


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers one request."""
    body, message = b"", await receive()
    while True:
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
        message = await receive()
    asked = json.loads(body)
    probabilities = learner.predict(example(asked["context"]))
    (drawn,) = random.choices(range(len(ACTIONS)), probabilities)
    told = {"decision_id": asked["decision_id"], "action": ACTIONS[drawn], "propensity": probabilities[drawn]}
    answer = json.dumps(told | {"distribution": dict(zip(ACTIONS, probabilities, strict=True))}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    for i in range(500):
        mood = random.uniform(-1.0, 1.0)
        learner.learn(example({"sentiment": mood}, (i % 7, -random.random(), 1.0 / 7.0)))
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, lifespan="off")
