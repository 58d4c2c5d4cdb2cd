"""Who comes and what would come of every action is settled before anything is sent."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import numpy as np
import pytest

from envs.load.traffic import Traffic
from envs.moments import MOMENTS
from envs.people import PURPOSES, Population
from nba.facts import Field, code_facts
from nba.pack import Pack
from tests.envs.played import PACKS, PLAYED
from tests.envs.served import Served

PACK = PACKS["support"]
SUPPORT = tuple(moment for moment in PACK.moments if moment in MOMENTS)


def traffic(rounds: int = 300, seed: int = 0, moments: tuple[str, ...] = SUPPORT) -> Traffic:
    return Traffic(PACK, moments, rounds, customers=2_000, population_seed=0, seed=seed)


def test_a_body_brings_request_time_facts_only() -> None:
    """Stored features are the server's to read; a fact that is not known is left out."""
    stored = {name for name, field in PACK.fields.items() if field.feature is not None}
    some = traffic()
    for i in range(len(some)):
        body = some.body(i, f"r-{i}")
        assert set(body) - {"consent"} == {"decision_id", "subject_id", "pack", "moment", "context"}
        context = body["context"]
        assert isinstance(context, dict)
        assert not set(context) & stored
        assert None not in context.values()
        assert set(context) <= set(PACK.moments[str(body["moment"])].fields)


def assert_served_on_the_same_facts(pack: Pack, moment: str, rounds: int) -> None:
    some, served = Traffic(pack, (moment,), rounds, customers=2_000, population_seed=0, seed=0), Served(pack)
    values = [served.request(some.body(i, f"r-{i}")).context.values for i in range(rounds)]
    facts = code_facts(pack.moment_fields(moment), values)
    np.testing.assert_array_equal(facts, some.moments[moment].batch.facts)


@pytest.mark.parametrize(("pack", "moment"), PLAYED)
def test_a_server_decides_on_the_very_facts_that_outcomes_come_from(pack: str, moment: str) -> None:
    """The body by the server's own intake, with what its feature store holds and consent lets it read: bit for bit."""
    assert_served_on_the_same_facts(PACKS[pack], moment, 200)


def test_a_server_decides_on_the_same_facts_where_stored_ones_have_purposes_and_defaults() -> None:
    changed = {
        "nps": msgspec.structs.replace(PACK.fields["nps"], purpose="emotion", default=5.0),
        "contacts_30d": msgspec.structs.replace(PACK.fields["contacts_30d"], default=1.0),
        "sentiment": Field(type="number", range=(-1, 1), purpose="proactive_contact", default=0.0),
    }
    assert_served_on_the_same_facts(msgspec.structs.replace(PACK, fields=PACK.fields | changed), "tone_tuner", 400)


def test_a_body_says_which_purposes_are_withheld_and_nothing_of_the_others() -> None:
    some, withheld = traffic(200), 0
    for i in range(200):
        body = some.body(i, "r")
        customer = int(str(body["subject_id"]).removeprefix("sim-"))
        people = Population(PACK).people(np.array([customer]))
        expected = {purpose: False for purpose in PURPOSES if people.withholds(purpose)[0]}
        assert body.get("consent", {}) == expected
        assert ("consent" in body) == bool(expected)
        withheld += bool(expected)
    assert 60 < withheld < 120


def test_times_are_the_customers_own_with_the_offset_of_their_clock() -> None:
    some = traffic(300, moments=("proactive_nudge",))
    part = some.moments["proactive_nudge"]
    offsets = set()
    for i in range(300):
        at = datetime.fromisoformat(str(part.context(i)["local_time"]))
        zone = part.env.population.people(part.batch.customers[i : i + 1]).time_zone[0]
        assert at.utcoffset() == timedelta(hours=int(zone))
        offsets.add(int(zone))
    assert offsets >= {-8, -5, 0, 1}


def test_the_same_seed_is_the_same_traffic() -> None:
    bodies = [[t.body(i, "r") for i in range(50)] for t in (traffic(), traffic(), traffic(seed=1))]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_moments_come_about_equally_often_and_only_those_asked_for() -> None:
    some = traffic(1_000)
    kinds = [some.body(i, "r")["moment"] for i in range(1_000)]
    assert min(kinds.count(moment) for moment in SUPPORT) > 150
    only = traffic(20, moments=("tone_tuner",))
    assert {only.body(i, "r")["moment"] for i in range(20)} == {"tone_tuner"}


def test_the_outcome_that_closes_the_window_is_reported_always_and_last() -> None:
    some = traffic(400, moments=("tone_tuner",))
    reports = [some.serve(i, "neutral_reply") for i in range(400)]
    assert {told[-1].outcome for told in reports} == {"resolved"}
    assert {told[-1].value for told in reports} == {0.0, 1.0}
    others = [report for told in reports for report in told[:-1]]
    assert {report.outcome for report in others} == {"repeat_contact", "escalated"}
    assert {report.value for report in others} == {1.0}


def test_what_was_served_is_valued_by_the_truth() -> None:
    """Silence everywhere: the served value is the mean of column 0."""
    some = traffic(200, moments=("tone_tuner", "followup_whisper"))
    for i in range(200):
        some.serve(i, "no_action")
    overall, by_moment = some.values()
    for name, values in by_moment.items():
        assert values.served == pytest.approx(some.moments[name].expected[:, 0].mean())
        assert values.served < values.uniform < values.rules < values.oracle
    served = np.concatenate([part.expected[:, 0] for part in some.moments.values()])
    assert (overall.rounds, overall.served) == (200, pytest.approx(served.mean()))


def test_rounds_that_were_not_served_are_not_valued() -> None:
    some = traffic(100)
    some.serve(0, "no_action")
    overall, by_moment = some.values()
    assert (overall.rounds, len(by_moment)) == (1, 1)


def test_an_action_the_pack_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        traffic(1).serve(0, "sing")
