"""What changes about customers: counted as the server counts, drawn once, in order."""

from __future__ import annotations

import numpy as np

from envs.load.changes import ConsentChange, Happening, Lives, purposes_of
from envs.people import PURPOSES, Population
from envs.situations import Situations
from nba.pack_file import load_pack

PACK = load_pack("support")
POPULATION = Population(PACK)
PEOPLE = POPULATION.people(np.arange(40))
FIELDS = list(POPULATION.fields)
CUSTOMER, NEWCOMER = 0, int(np.flatnonzero(np.isnan(PEOPLE.stored[:, FIELDS.index("purchases_90d")]))[0])


def lives(customers: list[int], events: float = 0.0, consent_changes: float = 0.0) -> Lives:
    return Lives(
        PEOPLE,
        POPULATION.fields,
        np.array(customers, dtype=np.int64),
        np.random.default_rng(0),
        purposes=purposes_of(PACK),
        events=events,
        consent_changes=consent_changes,
    )


def stored(of: Lives, customer: int, place: int) -> dict[str, float]:
    row = of.at(np.array([customer]), np.array([place])).stored[0]
    return dict(zip(FIELDS, row.tolist(), strict=True))


def test_without_a_share_nothing_changes() -> None:
    some = lives([1, 2, 3])
    assert some.changes == {}
    np.testing.assert_array_equal(some.at(np.array([2]), np.array([1_000])).stored, PEOPLE.stored[2:3])


def test_events_count_on_top_of_what_was_known_and_a_round_sees_those_before_it() -> None:
    """One customer through ten rounds: before each, every count is what it was at first, plus its events so far."""
    some = lives([CUSTOMER] * 10, events=1.0)
    names = [change.event for of in some.changes.values() for change in of if isinstance(change, Happening)]
    assert set(names) == {"purchase", "contact", "case_opened", "case_resolved"}
    at_first = dict(zip(FIELDS, PEOPLE.stored[CUSTOMER].tolist(), strict=True))
    for place in range(11):
        known, past = stored(some, CUSTOMER, place), names[:place]
        assert known["purchases_90d"] == at_first["purchases_90d"] + past.count("purchase")
        assert known["contacts_30d"] == at_first["contacts_30d"] + past.count("contact")
        assert known["open_cases"] == at_first["open_cases"] + past.count("case_opened") - past.count("case_resolved")


def test_nothing_happens_to_customers_without_any_history() -> None:
    """Seeding the store anew would not take it back."""
    assert lives([NEWCOMER] * 20, events=1.0).changes == {}


def test_a_count_beyond_the_range_of_its_field_is_unknown_as_it_is_to_the_server() -> None:
    """Contacts go up to 10."""
    some = lives([0] * 200, events=1.0)
    seen = [stored(some, 0, place)["contacts_30d"] for place in range(200)]
    assert np.nanmax(seen) == 10.0
    assert np.isnan(seen[-1])


def test_consent_flips_one_purpose_at_a_time() -> None:
    some = lives([3] * 30, consent_changes=1.0)
    before = dict(zip(PURPOSES, PEOPLE.consent[3].tolist(), strict=True))
    assert some.agreed(3) == before
    for place in range(30):
        (change,) = some.changes[place]
        assert isinstance(change, ConsentChange)
        assert change.granted is not before[change.purpose]
        before[change.purpose] = change.granted
        after = some.at(np.array([3]), np.array([place + 1])).consent[0]
        assert dict(zip(PURPOSES, after.tolist(), strict=True)) == before
    assert list(some.other_in_the_end()) == ([3] if before != some.agreed(3) else [])


def test_others_are_as_they_were() -> None:
    some = lives([3, 4] * 20, events=0.5, consent_changes=0.5)
    after = some.at(np.array([5, 4, 3]), np.array([40, 40, 0]))
    np.testing.assert_array_equal(after.stored[[0, 2]], PEOPLE.stored[[5, 3]])
    np.testing.assert_array_equal(after.consent[[0, 2]], PEOPLE.consent[[5, 3]])
    assert (after.stored[1] != PEOPLE.stored[4]).any()


def test_epochs_count_the_changes_behind() -> None:
    """Changes after places 0 and 1: rounds 0, 1 and 2 have 0, 1 and 2 behind them."""
    some = lives([6, 6], events=1.0)
    assert some.places(6) == [0, 1]
    assert [some.epoch(6, place) for place in (0, 1, 2)] == [0, 1, 2]
    assert some.epoch(7, 2) == 0


def test_purposes_are_those_that_a_server_of_the_pack_takes() -> None:
    assert purposes_of(PACK) == PURPOSES
    assert purposes_of(load_pack("media"))[0] == "personalization"


def test_what_is_withheld_is_gone_from_what_is_known_and_comes_back_when_granted() -> None:
    situations = Situations(PACK, "tone_tuner")
    brought = situations.brought(PEOPLE, np.random.default_rng(0))
    known = situations.known(brought, PEOPLE)
    np.testing.assert_array_equal(known, situations.facts(PEOPLE, np.random.default_rng(0)))
    np.testing.assert_array_equal(situations.known(known, PEOPLE), known)
