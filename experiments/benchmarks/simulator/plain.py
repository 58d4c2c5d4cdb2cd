"""A moment and a session written plainly: one customer, Python floats, `math` and `random`; no NumPy computes.

What a careful person would write without this simulator, and of the same content: the same population, situations,
eligibility, context columns, probabilities, rewards and `info` as `nba/ToneTuner-v0` and `nba/ServiceConversation-v0`.
Only the observation and the mask become arrays at the end, because a Gymnasium space asks for them. `check.py` holds
their means to those of the simulator.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from datetime import datetime, timedelta
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from envs.batch_session import BatchSessionEnv
from envs.dynamics.disposition import dispositions
from envs.people import TRAITS, Population, subject_id
from nba.moment_plan import plan_moment
from nba.pack_file import load_pack

EPOCH = datetime(1970, 1, 1)
MONDAY = (datetime(2026, 1, 5) - EPOCH).total_seconds()
CHANNELS, LOCALES, DEVICES = ("chat", "app", "web", "mail"), ("en", "de"), ("mobile", "desktop", "tablet")
COMES_BY = ("mail", "web", "chat", "app")  # from the least skilled to the most
GIVEN = (None, 0.0, 0.25, 0.4, 0.65, 0.95, None)  # empathy of each of the Tone-Tuner's actions
Number = float | None  # None is missing


class _Plain(gym.Env[Any, np.int64]):
    """What both have in common: who the customers are, and what is read of them."""

    def __init__(self, moment: str, customers: int) -> None:
        self.pack = load_pack("support")
        self.plan = plan_moment(self.pack, moment)
        people = Population(self.pack).people(np.arange(customers))
        self.traits = [dict(zip(TRAITS, row, strict=True)) for row in people.traits.tolist()]
        self.hour, self.german = people.active_hour.tolist(), people.german.tolist()
        self.moody = (~people.withholds("emotion")).tolist()
        stored = [name for name, field in self.pack.fields.items() if field.feature]
        read = (~people.withholds("personalization")).tolist()
        self.stored = [
            {name: None if not open_ or math.isnan(v) else v for name, v in zip(stored, row, strict=True)}
            for open_, row in zip(read, people.stored.tolist(), strict=True)
        ]
        self.n, self.people = customers, people
        self.ids, self.costs = self.plan.action_ids, self.plan.costs.tolist()
        self.action_space = spaces.Discrete(len(self.ids))
        self.rng, self.open = random.Random(), False

    def _begin(self, seed: int | None) -> int:
        super().reset(seed=seed)
        if seed is not None:
            self.rng.seed(seed)
        self.open = True
        return self.rng.randrange(self.n)

    def _channel(self, skill: float) -> str:
        ease = _logistic(0.8 * skill + 1.4 * self.rng.gauss(0.0, 1.0))
        return COMES_BY[(ease > 0.14) + (ease > 0.36) + (ease > 0.62)]


class PlainToneTuner(_Plain):
    """`nba/ToneTuner-v0`, plainly."""

    def __init__(self, customers: int = 2_000) -> None:
        super().__init__("tone_tuner", customers)
        self.z = dispositions(self.people.customers, 0).tolist()
        self.weights = list(self.pack.moment("tone_tuner").reward.values())
        self.observation_space = spaces.Box(-1.0, 1.0, (self.plan.width,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next customer's context."""
        self.who = self._begin(seed)
        self.facts = self._situation(self.who)
        self.mask = self._eligible(self.facts)
        self.context = np.array(self._encoded(self.facts), dtype=np.float32)
        return self.context.copy(), self._about()

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes the action; an ineligible one counts as no_action."""
        if not self.open:
            raise ResetNeeded("call reset()")
        self.open = False
        chosen = int(action)
        taken = chosen if self.mask[chosen] else 0
        chances = self._chances(self.facts)
        mixed = math.sqrt(0.9) * self.rng.gauss(0.0, 1.0) + math.sqrt(0.1) * self.z[self.who]
        u = 0.5 * (1.0 + math.erf(mixed / math.sqrt(2.0)))
        resolved, repeat, escalated = chances[taken]
        outcomes = (float(u < resolved), float(u > 1.0 - repeat), float(u > 1.0 - escalated))
        reward = sum(w * o for w, o in zip(self.weights, outcomes, strict=True)) - self.costs[taken]
        expected = [
            sum(w * p for w, p in zip(self.weights, of, strict=True)) - cost
            for of, cost in zip(chances, self.costs, strict=True)
        ]
        info = self._about() | {
            "ineligible": not self.mask[chosen],
            "action_id": self.ids[taken],
            "outcomes": dict(zip(("resolved", "repeat_contact", "escalated"), outcomes, strict=True)),
            "expected_rewards": np.array(expected),
        }
        return self.context.copy(), reward, True, False, info

    def _situation(self, who: int) -> dict[str, Any]:
        rng, z, stored = self.rng, self.traits[who], self.stored[who]
        hour = self.hour[who] + 3.0 * rng.gauss(0.0, 1.0) if rng.random() < 0.7 else rng.uniform(0.0, 24.0)
        again = min(float(int(rng.expovariate(1.0) * math.exp(-0.4 - 0.3 * z["skill"]))), 5.0)
        mood: Number = round(math.tanh(-0.4 + 0.3 * z["patience"] - 0.15 * again + 0.6 * rng.gauss(0.0, 1.0)), 3)
        if rng.random() < 0.02 or not self.moody[who]:
            mood = None
        heard: Number = round(_logistic(1.2 + 0.3 * z["skill"] - 0.4 * again + rng.gauss(0.0, 1.0)), 3)
        if rng.random() < 0.08:
            heard = None
        device = stored["device"]
        return {
            "local_time": MONDAY + 86_400.0 * rng.randrange(364) + math.floor(hour % 24.0 * 3_600.0),
            "channel": self._channel(z["skill"]),
            "locale": "de" if self.german[who] else "en",
            "sentiment": mood,
            "understanding": heard,
            "reformulations": again,
            "device": None if device is None else DEVICES[int(device)],
            "contacts_30d": stored["contacts_30d"],
            "open_cases": stored["open_cases"],
            "nps": stored["nps"],
        }

    def _eligible(self, facts: dict[str, Any]) -> list[bool]:
        mood = math.inf if facts["sentiment"] is None else facts["sentiment"]
        return [True, True, mood < 0.5, mood < 0.0, mood < -0.2, mood < -0.4, True]

    def _chances(self, facts: dict[str, Any]) -> list[tuple[float, float, float]]:
        """P(resolved), P(repeat contact), P(escalated) after each action."""
        mood = -0.25 if facts["sentiment"] is None else facts["sentiment"]
        heard = 0.6 if facts["understanding"] is None else facts["understanding"]
        contacts = 1.0 if facts["contacts_30d"] is None else facts["contacts_30d"]
        nps = 6.0 if facts["nps"] is None else facts["nps"]
        cases = facts["open_cases"] or 0.0
        cross, mail = max(0.0, -mood), float(facts["channel"] == "mail")
        wanted = cross * (1.0 - 0.05 * contacts) + 0.15 * (nps <= 5.5) - 0.15 * mail
        formal = facts["locale"] == "de" and facts["device"] == "desktop"
        sober = mail + 0.6 * formal + 0.25 * (nps >= 8.5)
        smooth = heard if mood > 0.0 else 0.0
        chances = []
        for a, given in enumerate(GIVEN):
            if given is not None:
                gap = wanted - given
                miss = (3.0 if gap > 0.0 else 7.0) * gap * gap
                logit = 1.1 - miss - 0.9 * smooth - 0.12 * facts["reformulations"]
                if given > 0.2:
                    logit -= 0.5 * sober
            elif a == 0:
                logit = -0.6 + 2.6 * smooth - 1.6 * cross
            else:
                logit = 0.2 + 1.1 * sober - 2.2 * wanted - 0.8 * smooth
            fury = -2.2 + 1.4 * cross + 0.3 * cases
            chances.append((_logistic(logit), _logistic(-1.0 - 0.7 * logit), _logistic(fury - 0.5 * logit)))
        return chances

    def _encoded(self, facts: dict[str, Any]) -> list[float]:
        mood = facts["sentiment"]
        known = math.inf if mood is None else mood
        days, seconds = divmod(facts["local_time"], 86_400.0)
        hour, day = math.tau * seconds / 86_400.0, math.tau * ((days + 3.0) % 7.0) / 7.0
        numbers = (
            (mood, -1.0, 1.0),
            (facts["understanding"], 0.0, 1.0),
            (facts["reformulations"], 0.0, 5.0),
            (facts["contacts_30d"], 0.0, 10.0),
            (facts["open_cases"], 0.0, 5.0),
            (facts["nps"], 0.0, 10.0),
        )
        return [
            1.0,
            *(_scaled(*number) for number in numbers),
            *(float(number[0] is None) for number in numbers),
            *(float(facts["channel"] == name) for name in CHANNELS),
            *(float(facts["locale"] == name) for name in LOCALES),
            *(float(facts["device"] == name) for name in DEVICES),
            math.sin(hour),
            math.sin(day),
            math.cos(hour),
            math.cos(day),
            float(known < -0.7),
            float(known < -0.4),
            float(known < -0.1),
            1.0,
        ]

    def _about(self) -> dict[str, Any]:
        facts = {name: value for name, value in self.facts.items() if value is not None}
        facts["local_time"] = (EPOCH + timedelta(seconds=facts["local_time"])).isoformat()
        return {"action_mask": np.array(self.mask, dtype=np.int8), "facts": facts, "subject_id": subject_id(self.who)}


class PlainServiceConversation(_Plain):
    """`nba/ServiceConversation-v0`, plainly, from the same law's tables turned into lists."""

    def __init__(self, customers: int = 2_000) -> None:
        super().__init__("service_conversation", customers)
        law = BatchSessionEnv(self.pack, "service_conversation", customers=1).law
        self.steps, self.sizes = law.steps, law.levels
        self.events, self.rewards = law.events, law.rewards.tolist()
        c, s, k, m = law.chances.shape
        self.states, self.m = s, m
        self.reached = law.chances.cumsum(axis=3)[..., :-1].reshape(c * s * k, -1).tolist()
        self.names = [variable.name for variable in law.variables]
        self.shown = [list(variable.shown) for variable in law.variables]
        self.start = [variable.start.cumsum(axis=1)[:, :-1].tolist() for variable in law.variables]
        self.target = [variable.moves.target.tolist() for variable in law.variables]
        self.chance = [variable.moves.chance.tolist() for variable in law.variables]
        k, d = len(self.ids), self.plan.width
        box = {"observations": (-1.0, d), "action_mask": (0.0, k)}
        self.observation_space = spaces.Dict(
            {name: spaces.Box(low, 1.0, (size,), np.float32) for name, (low, size) in box.items()}
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next customer's first observation."""
        self.who = who = self._begin(seed)
        z, stored, rng = self.traits[who], self.stored[who], self.rng
        self.type = 3 * _third(z["patience"]) + _third(z["skill"])
        self.turn = 0
        self.levels = [bisect_left(reached[self.type], rng.random()) for reached in self.start]
        device = stored["device"]
        self.brought = {"channel": self._channel(z["skill"]), "locale": "de" if self.german[who] else "en"}
        self.known = {
            "device": None if device is None else DEVICES[int(device)],
            "contacts_30d": stored["contacts_30d"],
            "nps": stored["nps"],
        }
        self._look()
        return self._observed(), self._about()

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes the action; an ineligible one counts as no_action."""
        if not self.open:
            raise ResetNeeded("call reset()")
        chosen, rng = int(action), self.rng
        eligible = self.mask[chosen]
        taken = chosen if eligible else 0
        state = 0
        for level, size in zip(self.levels, self.sizes, strict=True):
            state = state * size + level
        row = (self.type * self.states + state) * len(self.ids) + taken
        e = bisect_left(self.reached[row], rng.random())
        for i, level in enumerate(self.levels):
            if rng.random() < self.chance[i][self.type][level][taken][e]:
                self.levels[i] = self.target[i][level][taken][e]
        self.turn += 1
        self._look()
        event = self.events[e]
        ended = event.ends
        cut = not ended and self.turn >= self.steps
        self.open = not (ended or cut)
        info = self._about() | {
            "ineligible": not eligible,
            "action_id": self.ids[taken],
            "event": event.name,
            "outcomes": dict(event.outcomes),
        }
        return self._observed(), self.rewards[taken][e], ended, cut, info

    def _look(self) -> None:
        """What can be seen of the state now, and what may be done in it."""
        shown = {name: values[level] for name, values, level in zip(self.names, self.shown, self.levels, strict=True)}
        if not self.moody[self.who]:
            shown["sentiment"] = None
        self.facts = {"step": float(self.turn), **self.brought, **shown, **self.known}
        u, again = shown["understanding"], shown["reformulations"]
        mood = math.inf if shown["sentiment"] is None else shown["sentiment"]
        free = shown["agents_free"] >= 1.0
        self.mask = [
            True,
            True,
            u < 0.85,
            u < 0.7 or again >= 1.0,
            mood < -0.2,
            shown["task_steps_left"] >= 3.0,
            (u < 0.5 or again >= 2.0 or mood < -0.6) and free,
        ]

    def _observed(self) -> dict[str, Any]:
        return {
            "observations": np.array(self._encoded(self.facts), dtype=np.float32),
            "action_mask": np.array(self.mask, dtype=np.float32),
        }

    def _encoded(self, facts: dict[str, Any]) -> list[float]:
        mood = math.inf if facts["sentiment"] is None else facts["sentiment"]
        u, again = facts["understanding"], facts["reformulations"]
        numbers = (
            (facts["step"], 0.0, 50.0),
            (facts["sentiment"], -1.0, 1.0),
            (u, 0.0, 1.0),
            (again, 0.0, 5.0),
            (facts["task_steps_left"], 0.0, 10.0),
            (facts["agents_free"], 0.0, 5.0),
            (facts["acknowledgements"], 0.0, 5.0),
            (facts["contacts_30d"], 0.0, 10.0),
            (facts["nps"], 0.0, 10.0),
        )
        return [
            1.0,
            *(_scaled(*number) for number in numbers),
            *(float(number[0] is None) for number in numbers),
            *(float(facts["channel"] == name) for name in CHANNELS),
            *(float(facts["locale"] == name) for name in LOCALES),
            *(float(facts["device"] == name) for name in DEVICES),
            float(again >= 3.0 or mood < -0.8),
            float(mood < -0.5 and facts["acknowledgements"] < 1.0),
            float(u >= 0.6),
            float(u >= 0.4),
            1.0,
        ]

    def _about(self) -> dict[str, Any]:
        known = {name: value for name, value in self.facts.items() if value is not None}
        return {"facts": known, "subject_id": subject_id(self.who)}


PLAIN: dict[str, type[_Plain]] = {
    "nba/ToneTuner-v0": PlainToneTuner,
    "nba/ServiceConversation-v0": PlainServiceConversation,
}


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def _scaled(value: Number, low: float, high: float) -> float:
    return 0.0 if value is None else (value - (low + high) / 2.0) / ((high - low) / 2.0)


def _third(trait: float) -> int:
    return (trait > -0.4307) + (trait > 0.4307)
