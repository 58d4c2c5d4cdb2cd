"""Packs: what product teams write. Fields, moments, actions, guardrails, outcomes and the reward formula.

The types here are the schema: a YAML file converts to them strictly or is refused (`nba.pack_file`).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from nba.errors import UnknownActionError, UnknownMomentError
from nba.facts import Duration, Field, seconds
from nba.types import NO_ACTION

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)")]
Text = Annotated[str, Meta(max_length=2_000)]


class Action(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something the app can do. Its trigger is the condition without which it makes no sense."""

    layer: Literal["cognitive", "emotional", "procedural"]
    channel: Name
    trigger: str  # a condition, or `always`
    cost: Annotated[float, Meta(ge=0)] = 0.0  # reward units each time it is taken
    delay_ms: Annotated[int, Meta(ge=0, le=10_000)] = 0
    metric: str | None = None  # outcome it is meant to raise
    guardrail_metric: str | None = None  # outcome it must not hurt
    treatments: dict[Name, dict[str, Text]] = {}  # phrasing -> language -> message
    description: Text = ""


DO_NOTHING = Action(layer="procedural", channel="none", trigger="always", description="stay silent")


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a moment's priority list: the first whose condition holds and whose action is eligible acts."""

    when: str
    action: str


class Guardrail(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Removes actions before the policy sees them, whatever it would have liked."""

    when: str  # a condition; where it holds, the actions are removed
    remove: Annotated[tuple[str, ...], Meta(min_length=1)]
    moments: tuple[str, ...] = ()  # empty: every moment that has one of the actions
    why: Text = ""


class Outcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact that comes back. The reward formula turns outcomes into a reward."""

    range: tuple[float, float] = (0.0, 1.0)
    aggregate: Literal["first", "last", "max", "sum"] = "first"  # several reports of one decision
    closes_window: bool = False  # the app's word that nothing more will come for this decision
    description: Text = ""


class Moment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A situation in which the app asks. Its reward is sum(weight * outcome) - the action's cost."""

    fields: tuple[str, ...]
    actions: Annotated[tuple[str, ...], Meta(min_length=1)]  # besides no_action, which is always column 0
    reward: Annotated[dict[str, float], Meta(min_length=1)]  # outcome -> weight
    window: Duration  # after the action was shown
    default_reward: float = 0.0  # before the cost, where no outcome came
    rules: tuple[Rule, ...] = ()
    # A claim: the best action depends on the customer, by at least 10 % of what the best fixed order of actions earns.
    # The simulator's report holds the pack to it.
    heterogeneous: bool = False
    title: str = ""
    description: Text = ""

    @property
    def window_s(self) -> float:
        """The reward window in seconds."""
        return seconds(self.window)

    @property
    def action_ids(self) -> tuple[str, ...]:
        """Every action in column order, no_action first."""
        return (NO_ACTION, *self.actions)


class Pack(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """Everything a decision needs but the customer and the policy."""

    pack: Name
    version: Annotated[int, Meta(ge=1)]
    reward_version: Annotated[int, Meta(ge=1)]
    fields: dict[Name, Field]
    moments: Annotated[dict[Name, Moment], Meta(min_length=1)]
    actions: dict[Name, Action]
    outcomes: dict[Name, Outcome]
    guardrails: dict[Name, Guardrail] = {}
    candidates: tuple[str, ...] = ("quadratic+thompson", "linear+thompson", "square_cb")  # kinds a retrain learns
    languages: Annotated[tuple[str, ...], Meta(min_length=1)] = ("en",)  # the first is the default
    locale_field: str | None = None  # a category field that holds the customer's language
    strict: bool = False  # refuse wrong facts instead of defaulting them
    title: str = ""
    description: Text = ""

    def moment(self, name: str) -> Moment:
        """The moment of that name. Raises UnknownMomentError."""
        try:
            return self.moments[name]
        except KeyError:
            raise UnknownMomentError(
                f"pack {self.pack!r} has no moment {name!r}",
                help=f"its moments are {', '.join(self.moments)}",
                field="moment",
            ) from None

    def action(self, action_id: str) -> Action:
        """The action of that id; for no_action the pack's own description, else silence at no cost.

        Raises UnknownActionError.
        """
        found = self.actions.get(action_id)
        if found is not None:
            return found
        if action_id == NO_ACTION:
            return DO_NOTHING
        raise UnknownActionError(
            f"pack {self.pack!r} has no action {action_id!r}", help=f"its actions are {', '.join(self.actions)}"
        )

    @property
    def reads_stored(self) -> bool:
        """Whether any fact comes from the feature store."""
        return any(field.feature is not None for field in self.fields.values())

    def moment_fields(self, name: str) -> dict[str, Field]:
        """The fields of a moment, in column order of its facts."""
        return {field: self.fields[field] for field in self.moment(name).fields}

    def reward_range(self, name: str) -> tuple[float, float]:
        """Lowest and highest reward a round of the moment can have, costs taken off; any outcome may stay away."""
        moment = self.moment(name)
        ends = [[weight * end for end in self.outcomes[outcome].range] for outcome, weight in moment.reward.items()]
        costs = [self.action(action_id).cost for action_id in moment.action_ids]
        low, high = sum(min(0.0, *pair) for pair in ends), sum(max(0.0, *pair) for pair in ends)
        return min(low, moment.default_reward) - max(costs), max(high, moment.default_reward) - min(costs)

    @cached_property
    def digest(self) -> str:
        """Hash of everything that decides or teaches, so that a policy knows whether it was made for this pack.

        Wording is not part of it (titles, descriptions, messages, languages), nor what a retrain tries, nor what is
        claimed, nor anything left at its default: a later version of the schema does not make the policies of today
        unusable.
        """
        return hashlib.sha256(msgspec.json.encode(_decisive(self), order="sorted")).hexdigest()


# Made here, once: msgspec learns a type at its first use, and two threads that do so at once crash the process.
PACK = msgspec.json.Decoder(Pack)


_WORDING = {"title", "description", "why", "languages", "locale_field", "candidates", "heterogeneous"}


def _decisive(value: Any) -> Any:
    if isinstance(value, Struct):
        told = {
            field.name: getattr(value, field.name)
            for field in msgspec.structs.fields(value)
            if field.name not in _WORDING and getattr(value, field.name) not in (field.default, {})
        }
        if isinstance(value, Action):
            told["treatments"] = sorted(value.treatments)
        return _decisive(told)
    if isinstance(value, dict):
        return {key: _decisive(v) for key, v in value.items()}
    return [_decisive(v) for v in value] if isinstance(value, tuple | list) else value
