"""Coded facts of customers in a moment: what it brings along, and what the feature store knows of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator

from envs.moments import simulated_moment
from envs.people import TRAITS, People, vocabulary
from nba.errors import PackError
from nba.facts import Field
from nba.pack import Pack
from nba.types import Facts


class Situations:
    """Facts of one moment for customers in it. Raises PackError, UnknownMomentError where it knows no such facts."""

    def __init__(self, pack: Pack, moment: str) -> None:
        self.fields: Mapping[str, Field] = pack.moment_fields(moment)
        simulated = simulated_moment(moment)
        self._make, names = simulated.situation, simulated.names
        stored = [name for name, field in pack.fields.items() if field.feature is not None]
        self._stored = [(j, stored.index(name)) for j, name in enumerate(self.fields) if name in stored]
        self._brought = [(j, name) for j, name in enumerate(self.fields) if name not in stored]
        self._codes = {name: vocabulary(self.fields[name], names[name]) for _, name in self._brought if name in names}
        made = self._make(_nobody(len(stored)), np.random.default_rng(0))
        for _, name in self._brought:
            if name not in made:
                raise PackError(
                    f"moment {moment!r}: simulated customers bring no field {name!r}",
                    help=f"they bring {', '.join(made)}; give the field a feature, or leave it out",
                )

    def facts(self, people: People, rng: Generator) -> Facts:
        """Coded facts (n, f) as a decision would use them: what is missing and has a default takes it."""
        made = self._make(people, rng)
        facts = np.empty((len(people), len(self.fields)))
        for j, place in self._stored:
            facts[:, j] = people.stored[:, place]
        for j, name in self._brought:
            codes = made[name]
            facts[:, j] = self._codes[name][codes.astype(np.intp)] if name in self._codes else codes
        for j, field in enumerate(self.fields.values()):
            if field.range is not None:
                np.clip(facts[:, j], *field.range, out=facts[:, j])
            if field.default is not None:
                facts[np.isnan(facts[:, j]), j] = field.code(field.default)
        return facts


def _nobody(stored: int) -> People:
    traits = np.empty((0, len(TRAITS)))
    return People(np.empty(0, np.int64), traits, np.empty(0), np.empty(0, np.bool_), np.empty((0, stored)))
