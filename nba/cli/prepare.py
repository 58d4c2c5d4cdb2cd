"""Getting an installation ready to serve: features applied and seeded, a champion for every pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nba.home import Home
from nba.pack import Pack
from nba.types import Value

if TYPE_CHECKING:
    from training.tracking import Version

CUSTOMERS = 2_000
ROUNDS = 5_000  # a moment, for the first policy
# It has met simulated customers only: it explores more than one that knows real ones, so that its log can teach.
FIRST = {"scale": 1.0}


def seed_customers(
    home: Home, pack: Pack, redis_url: str, customers: int, on_step: Callable[[int], None] = lambda _: None
) -> int:
    """Writes the stored features of simulated customers to the feature store; how many."""
    import numpy as np

    from envs.people import Population, subject_id
    from features.store import seed

    population = Population(pack)

    def rows() -> Iterator[tuple[str, dict[str, Value]]]:
        for start in range(0, customers, CUSTOMERS):
            indices = np.arange(start, min(start + CUSTOMERS, customers))
            for i, features in zip(indices, population.stored_features(indices), strict=True):
                yield subject_id(int(i)), features
            on_step(start + len(indices))

    return seed(home, rows(), redis_url, datetime.now(UTC))


def ensure_champion(
    home: Home, pack: Pack, actor: str, *, on_step: Callable[[int], None] = lambda _: None
) -> tuple[Version, bool]:
    """The pack's champion, and whether it was made now: learned in the simulator, or uniform where nobody plays it."""
    from training.promote import promote
    from training.tracking import Tracking
    from training.train import train_in_simulator, train_without_rounds
    from training.truth import simulate

    tracking = Tracking.of(home)
    champion = tracking.aliased(pack.pack, "champion")
    if champion is not None and champion.tags.get("pack_digest") == pack.digest:
        return champion, False
    simulated = simulate(pack)
    if simulated:
        version = train_in_simulator(
            home,
            tracking,
            pack,
            "square_cb",
            simulated,
            rounds=ROUNDS,
            seed=0,
            settings=FIRST,
            on_step=on_step,
        )
    else:
        version = train_without_rounds(home, tracking, pack, "uniform")
    why = "the pack has changed: the champion so far does not fit it" if champion else "the first champion"
    promote(
        home,
        tracking,
        pack,
        version,
        verdict=None,
        at=datetime.now(UTC),
        actor=actor,
        why=why,
        force=champion is not None,
    )
    return version, True
