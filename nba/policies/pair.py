"""A policy of two parts that are chosen apart: a model of what actions are worth, and a way to explore by it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, make_dataclass
from typing import Any, Self, get_type_hints

from nba.explore import EXPLORERS
from nba.explore.explorer import Explorer
from nba.models import MODELS
from nba.models.model import Model
from nba.moment_plan import MomentPlan
from nba.rounds import LoggedRounds
from nba.types import ActionMask, Contexts, Distribution, Weights


@dataclass(frozen=True, slots=True)
class Pair:
    """pi(a | x) = what `explore` makes of the values that `model` gives the actions."""

    model: Model
    explore: Explorer

    def distribution(self, contexts: Contexts, mask: ActionMask) -> Distribution:
        """Probabilities (n, k)."""
        return self.explore.distribution(self.model, contexts, mask)

    @classmethod
    def fit(
        cls,
        plan: MomentPlan,
        rounds: LoggedRounds,
        previous: Self | None = None,
        *,
        weights: Weights | None = None,
        **settings: Any,
    ) -> Self:
        """Learned from these rounds on top of what `previous` knows; each setting goes to the part that has it."""
        unknown = settings.keys() - set(options(cls))
        if unknown:
            raise TypeError(f"{cls.__name__} has no setting {sorted(unknown)}")
        model_type, explore_type = parts(cls)
        before = previous.model if previous is not None else None
        own, other = ({n: v for n, v in settings.items() if n in _options(part)} for part in (model_type, explore_type))
        model = model_type.fit(rounds, plan.action_features, before, weights=weights, **own)
        return cls(model, explore_type.fit(plan, model, **other))


def parts(kind: type[Pair]) -> tuple[Any, Any]:
    """The types of the model and of the explorer of a kind of pair."""
    hints = get_type_hints(kind)
    return hints["model"], hints["explore"]


def options(kind: type[Any]) -> tuple[str, ...]:
    """Names of the settings that a kind of policy takes when it is learned."""
    if not issubclass(kind, Pair):
        return tuple(_options(kind))
    return tuple(dict.fromkeys(name for part in parts(kind) for name in _options(part)))


def _options(part: type[Any]) -> list[str]:
    keywords = [p for p in inspect.signature(part.fit).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return [p.name for p in keywords if p.name != "weights"]


def _pair(model: str, explore: str) -> type[Pair]:
    """A type of its own for each pair, so that an artefact knows by its kind what it may hold."""
    fields: list[tuple[str, Any]] = [("model", MODELS[model]), ("explore", EXPLORERS[explore])]
    made: type[Pair] = make_dataclass(f"{model}+{explore}", fields, bases=(Pair,), frozen=True, slots=True)
    return made


PAIRS: dict[str, type[Pair]] = {f"{m}+{e}": _pair(m, e) for m in MODELS for e in EXPLORERS}
