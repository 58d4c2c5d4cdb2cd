"""Coded facts of customers in a moment: what it brings along, and what the feature store knows of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from envs.moments import Situation, moment_law
from envs.moments.parts import NAMES
from envs.people import PURPOSES, TRAITS, People, vocabulary
from nba.errors import PackError
from nba.facts import Field
from nba.pack import Pack
from nba.types import Facts

PERSONALIZATION = "personalization"  # the purpose without which nothing stored is read


class Situations:
    """Facts of one moment for customers in it. Raises PackError, UnknownMomentError where it knows no such facts."""

    def __init__(self, pack: Pack, moment: str, situation: Situation | None = None) -> None:
        self.fields: Mapping[str, Field] = pack.moment_fields(moment)
        if situation is None:
            law = moment_law(moment)
            self._make, names = law.situation, law.names
        else:  # a session's, which is no moment of its own
            self._make, names = situation, NAMES
        stored = [name for name, field in pack.fields.items() if field.feature is not None]
        self._stored = [(j, stored.index(name)) for j, name in enumerate(self.fields) if name in stored]
        # One read brings all that is stored, so that a single purpose withheld means that nothing is read.
        read_for = {PERSONALIZATION, *(f.purpose for f in pack.fields.values() if f.feature and f.purpose)}
        self._read_for = sorted(read_for)
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
        return self.known(self.brought(people, rng), people)

    def brought(self, people: People, rng: Generator) -> Facts:
        """What the moment brings, coded (n, f), whatever is agreed to; what is stored is NaN."""
        made = self._make(people, rng)
        facts = np.full((len(people), len(self.fields)), np.nan)
        for j, name in self._brought:
            codes = made[name]
            facts[:, j] = self._codes[name][codes.astype(np.intp)] if name in self._codes else codes
        return facts

    def known(self, brought: Facts, people: People) -> Facts:
        """Facts (n, f) as a decision would use them, of what is brought (n, f) and stored of these people.

        Consent counts as on the server: what is stored is as good as unknown where one of the purposes that it is
        read for is withheld, and a field whose own purpose is withheld is gone, default and all.
        """
        facts = brought.copy()
        unread = np.any([people.withholds(purpose) for purpose in self._read_for], axis=0)
        for j, place in self._stored:
            facts[:, j] = np.where(unread, np.nan, people.stored[:, place])
        for j, field in enumerate(self.fields.values()):
            if field.range is not None:
                np.clip(facts[:, j], *field.range, out=facts[:, j])
            if field.default is not None:
                facts[np.isnan(facts[:, j]), j] = field.code(field.default)
        facts[self.withheld(people)] = np.nan
        return facts

    def withheld(self, people: People) -> NDArray[np.bool_]:
        """Where a field must not be used (n, f), for want of consent to its own purpose."""
        gone = np.zeros((len(people), len(self.fields)), dtype=np.bool_)
        for j, field in enumerate(self.fields.values()):
            if field.purpose is not None:
                gone[:, j] = people.withholds(field.purpose)
        return gone


def _nobody(stored: int) -> People:
    return People(
        customers=np.empty(0, np.int64),
        traits=np.empty((0, len(TRAITS))),
        active_hour=np.empty(0),
        german=np.empty(0, np.bool_),
        time_zone=np.empty(0, np.int64),
        consent=np.empty((0, len(PURPOSES)), np.bool_),
        stored=np.empty((0, stored)),
    )
