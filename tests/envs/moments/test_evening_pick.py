"""An evening before the screen: those who know what they want, the undecided, the sad and the tired."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from envs.batch import BatchMomentEnv
from nba.types import Value
from tests.envs import played

truth, best = (partial(of, "media", "evening_pick") for of in (played.truth, played.best))

EIGHT: dict[str, Value] = {"local_time": "2026-03-02T20:00:00", "entry": "home", "watched_minutes": 0}


def test_silence_by_hand() -> None:
    """Four minutes of looking around: torn 0.5; -0.6 - 0.45 = -1.05, P 0.259225; broadened -3.55, P 0.027917.

    annoyed -9, P 0.000123; 0.259225 + 0.15 * 0.027917 - 0.6 * 0.000123 = 0.263339.
    """
    assert truth(browsing_minutes=4, watched_minutes=0)["no_action"] == pytest.approx(0.263339, abs=1e-5)


def test_something_new_by_hand() -> None:
    """Streak 2: stale 0.5; variety 0.8: 0.5 * 2.8 = 1.4; enjoyed -0.6 - 0.2 + 1.4 = 0.6, P 0.645656; broadened 0.3,
    P 0.574443; annoyed -4, P 0.017986; 0.645656 + 0.15 * 0.574443 - 0.6 * 0.017986 - 0.01 = 0.711031.
    """
    values = truth(genre_streak=2, variety=0.8, watched_minutes=0)
    assert values["new_genre"] == pytest.approx(0.711031, abs=1e-5)


def test_nothing_is_broadened_that_is_not_enjoyed() -> None:
    """Both happen where u < P, and P(broadened) <= P(enjoyed)."""
    env = BatchMomentEnv(played.PACKS["media"], "evening_pick")
    batch = env.sample(2_000, np.random.default_rng(0))
    for column, action in enumerate(env.plan.action_ids):
        happened = env.outcomes(batch, np.full(2_000, column), np.random.default_rng(1))
        enjoyed, broadened = (happened[:, env.outcome_names.index(name)] for name in ("enjoyed", "broadened"))
        assert (broadened <= enjoyed).all()
        assert broadened.any() == (action not in ("continue_series", "familiar_pick", "wind_down"))


def test_who_has_searched_for_something_is_best_left_alone() -> None:
    assert best(**EIGHT | {"entry": "search"}, browsing_minutes=0) == "no_action"
    assert best(**EIGHT | {"entry": "link"}, browsing_minutes=0) == "no_action"


def test_who_has_searched_and_still_looks_around_did_not_find_it() -> None:
    assert best(**EIGHT | {"entry": "search"}, browsing_minutes=15, style="detailed") == "offer_three"


def test_three_to_weigh_up_are_for_those_who_weigh_up() -> None:
    lost = EIGHT | {"browsing_minutes": 15, "genre_streak": 3}
    assert best(**lost, style="detailed") == "offer_three"
    assert best(**lost, style="brief") == "new_genre"


def test_a_series_is_gone_on_with_while_it_is_warm() -> None:
    assert best(**EIGHT, days_since_episode=1) == "continue_series"
    assert best(**EIGHT, days_since_episode=40) != "continue_series"


def test_more_of_the_same_until_it_is_stale_and_the_curious_tire_of_it_sooner() -> None:
    assert best(**EIGHT, genre_streak=0, variety=0.2) == "familiar_pick"
    assert best(**EIGHT, genre_streak=2, variety=0.2) == "familiar_pick"
    assert best(**EIGHT, genre_streak=2, variety=0.8) == "new_genre"


def test_no_adventures_in_a_bad_mood() -> None:
    curious = EIGHT | {"genre_streak": 5, "variety": 0.9}
    assert best(**curious, mood=0.2) == "new_genre"
    assert best(**curious, mood=-0.8) == "mood_pick"


def test_a_gentle_pick_annoys_who_needs_none() -> None:
    values = truth(**EIGHT, mood=0.5)
    assert values["mood_pick"] < values["no_action"] - 0.1


def test_who_has_half_an_hour_wants_something_short() -> None:
    short, long = (truth(**EIGHT, minutes_free=m, genre_streak=3, device="mobile") for m in (30, 180))
    assert max(short, key=lambda action: short[action]) == "short_pick"
    assert long["short_pick"] < long["no_action"]


def test_a_premiere_pleases_early_and_annoys_at_night() -> None:
    awaited: dict[str, Value] = {"new_titles": 6, "device": "mobile", "genre_streak": 3}
    early, late = (truth(**awaited, local_time=f"2026-03-02T{hour}:00:00") for hour in (19, 23))
    assert max(early, key=lambda action: early[action]) == "push_premiere"
    assert late["push_premiere"] < early["push_premiere"] - 0.05


def test_late_and_tired_a_good_place_to_stop_and_early_an_impertinence() -> None:
    late = EIGHT | {"local_time": "2026-03-02T23:45:00", "watched_minutes": 240}
    assert best(**late) == "wind_down"
    early = truth(**EIGHT)
    assert early["wind_down"] < early["no_action"] - 0.25


def test_rates_without_a_word_and_with_the_right_one() -> None:
    """Four in ten are enjoyed and two in three at best, one in seven then something new; five of six ask for a word."""
    env = BatchMomentEnv(played.PACKS["media"], "evening_pick")
    batch = env.sample(20_000, np.random.default_rng(0))
    chances = env.probabilities(batch.contexts)
    assert chances[:, 0].mean(axis=0) == pytest.approx([0.40, 0.09, 0.0], abs=0.02)
    right = np.where(batch.mask, env.expected_rewards(batch.contexts), -np.inf).argmax(axis=1)
    assert chances[np.arange(20_000), right].mean(axis=0) == pytest.approx([0.67, 0.14, 0.02], abs=0.02)
    assert (right > 0).mean() == pytest.approx(5.0 / 6.0, abs=0.02)
