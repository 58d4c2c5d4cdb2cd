"""A session's tables: by hand on a small one, by frequency on the built-in ones."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from envs.batch_session import BatchSessionEnv
from envs.session_law import NEVER, NOTHING, Moves, SessionLaw, Space, State, trait_types, type_of
from envs.sessions import SESSIONS
from nba.errors import PackError
from nba.moment_plan import plan_moment
from nba.pack import Guardrail
from nba.pack_file import load_pack
from tests.envs.small_session import PACK, SMALL, small_law

BUILT_IN = {"service_conversation": "support", "shopping_journey": "retail", "month_of_contacts": "media"}


def test_chances_are_the_softmax_of_the_logits_by_hand() -> None:
    """Warm on level 0: good has logit log 3, nothing 0: 3 / 4 and 1 / 4. Silence: good never."""
    law = small_law()
    warm, silence = law.space.actions.index("warm"), 0
    assert law.chances[0, 0, warm].tolist() == pytest.approx([0.25, 0.75, 0.0])
    assert law.chances[0, 0, silence].tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_rewards_are_the_formula_less_the_cost() -> None:
    """good is outcome `done` of weight 1; warm costs 0.1, silence nothing; `over` is worth 0.5."""
    law = small_law()
    assert law.rewards.tolist() == [[0.0, 1.0, 0.5], [-0.1, 0.9, 0.4]]


def test_states_count_in_c_order_and_their_masks_follow_the_triggers() -> None:
    """warm needs mood >= 0.5, which is level 1 of two."""
    law = small_law(trigger="mood >= 0.5")
    assert law.mask.tolist() == [[True, False], [True, True]]


def test_a_trait_has_three_levels_and_a_customer_the_nearest_third() -> None:
    values, by_name = trait_types(("patience", "skill"))
    assert values.shape == (9, 2)
    assert by_name["skill"][:4].tolist() == pytest.approx([-1.0912, 0.0, 1.0912, -1.0912])
    assert type_of(np.array([[-2.0, 0.1], [0.0, 3.0], [0.5, -0.5]])).tolist() == [1, 5, 6]


def test_the_levels_are_the_means_of_the_thirds_of_a_standard_normal() -> None:
    """E[z | z > c] = phi(c) / (1/3) with c = 0.4307: 0.36360 * 3 = 1.0908."""
    z = np.random.default_rng(0).standard_normal(1_000_000)
    assert np.bincount(type_of(z[:, None])) / 1e6 == pytest.approx([1 / 3] * 3, abs=0.002)
    assert z[z > 0.4307].mean() == pytest.approx(1.0912, abs=0.005)


def test_a_later_rule_of_a_move_replaces_an_earlier_one() -> None:
    """Anything: one down with chance 0.1. Then good: up for sure. Level 0 cannot go down, level 2 not up."""
    space = Space(("no_action", "warm"), (NOTHING, "good"), {})
    moves = Moves(space, 3).when(by=-1, chance=0.1).when(events=["good"], by=1)
    assert moves.target[:, 1, 1].tolist() == [1, 2, 2]
    assert moves.target[:, 1, 0].tolist() == [0, 0, 1]
    assert moves.chance[0, :, 1].tolist() == [[0.1, 1.0], [0.1, 1.0], [0.1, 1.0]]


def test_equations_read_levels_and_traits_that_broadcast() -> None:
    law = small_law()
    state = State(law.space, law.variables)
    assert state.shape == (1, 2)
    assert state.level("mood").tolist() == [[0.0, 1.0]]
    assert state.at("mood", 1).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("moment", list(SESSIONS))
def test_chances_of_events_sum_to_one_and_start_levels_too(moment: str) -> None:
    law = BatchSessionEnv(pack_of(moment), moment).law
    np.testing.assert_allclose(law.chances.sum(axis=3), 1.0, atol=1e-12)
    for variable in law.variables:
        np.testing.assert_allclose(variable.start.sum(axis=1), 1.0, atol=1e-12)
        assert (variable.moves.chance >= 0.0).all()
        assert (variable.moves.chance <= 1.0).all()


@pytest.mark.parametrize("moment", list(SESSIONS))
def test_the_simulator_moves_as_its_own_table_says(moment: str) -> None:
    """100,000 sessions in one state, one action: events and next levels within 4.5 standard errors of the table."""
    env, rng, n = BatchSessionEnv(pack_of(moment), moment), np.random.default_rng(3), 100_000
    law = env.law
    for a in range(len(law.space.actions)):
        sessions = env.start(n, rng)
        sessions.types[:] = c = int(rng.integers(law.space.types))
        levels = [int(rng.integers(size)) for size in law.levels]
        sessions.levels[:] = np.array(levels)[:, None]
        happened = env.advance(sessions, np.full(n, a), rng)
        p = law.chances[c, int(np.ravel_multi_index(levels, law.levels)), a]
        off = np.abs(np.bincount(happened.events, minlength=len(p)) / n - p)
        assert (off <= 4.5 * np.sqrt(p * (1.0 - p) / n) + 1e-9).all()
        for i, variable in enumerate(law.variables):
            q = variable.moves.chance[c, levels[i], a][happened.events]
            expected = q * variable.moves.target[levels[i], a][happened.events] + (1.0 - q) * levels[i]
            residual = sessions.levels[i] - expected
            assert abs(residual.mean()) <= 4.5 * residual.std() / np.sqrt(n) + 1e-9, variable.name


def test_a_guardrail_that_looks_beyond_the_session_is_refused() -> None:
    guardrail = Guardrail(when="age > 3", remove=("warm",))
    pack = msgspec.structs.replace(PACK, guardrails={"old": guardrail})
    with pytest.raises(PackError, match="not part of the session's state"):
        SessionLaw.of(plan_moment(pack, "talk"), SMALL)


def test_an_action_without_a_law_is_refused_by_name() -> None:
    moment = msgspec.structs.replace(PACK.moments["talk"], actions=("warm", "cold"))
    pack = msgspec.structs.replace(
        PACK, moments={"talk": moment}, actions=PACK.actions | {"cold": PACK.actions["warm"]}
    )
    with pytest.raises(PackError, match="'cold'"):
        SessionLaw.of(plan_moment(pack, "talk"), SMALL)


def test_an_outcome_that_the_pack_does_not_pay_for_is_refused_by_name() -> None:
    moment = msgspec.structs.replace(PACK.moments["talk"], reward={"ended": 0.5})
    pack = msgspec.structs.replace(PACK, moments={"talk": moment})
    with pytest.raises(PackError, match="'done'"):
        SessionLaw.of(plan_moment(pack, "talk"), SMALL)


def test_what_can_never_happen_has_no_chance() -> None:
    assert np.exp(NEVER) == 0.0


def pack_of(moment: str):

    return load_pack(BUILT_IN[moment])
