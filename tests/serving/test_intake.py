from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from features.online import FeatureRow
from nba.artefact import load_artefact
from nba.errors import ContextError, UnknownMomentError
from nba.pack import Pack
from nba.snapshot import Snapshot
from serving.errors import InvalidError, NoPolicyError, UnknownPackError
from serving.intake import NOTHING_STORED, Intake
from serving.wire import DecideBody

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Champions:
    """A snapshot a pack."""

    def __init__(self, snapshots: dict[str, Snapshot]) -> None:
        self.snapshots = snapshots

    def snapshot(self, pack: str) -> Snapshot | None:
        return self.snapshots.get(pack)


@pytest.fixture
def snapshot(artefacts: dict[str, Path]) -> Snapshot:
    return load_artefact(artefacts["uniform"])


@pytest.fixture
def intake(support: Pack, snapshot: Snapshot) -> Intake:
    return Intake({"support": support}, Champions({"support": snapshot}), b"s" * 32)


def asks(**given: Any) -> DecideBody:
    return DecideBody(**{"subject_id": "u", "moment": "tone_tuner", **given})


def test_with_several_packs_one_must_be_named(support: Pack, snapshot: Snapshot) -> None:
    other = replace(support, pack="other")
    intake = Intake({"support": support, "other": other}, Champions({"support": snapshot}), b"s")
    assert intake.ask(asks(pack="support")).pack == "support"
    with pytest.raises(InvalidError) as refused:
        intake.ask(asks())
    assert refused.value.field == "pack"
    with pytest.raises(UnknownPackError):
        intake.ask(asks(pack="third"))
    with pytest.raises(NoPolicyError) as waiting:
        intake.ask(asks(pack="other", baseline_action="warm_reply"))
    assert waiting.value.fallback_action == "warm_reply"


def test_an_unknown_moment_is_told_before_anything_is_read(intake: Intake) -> None:
    with pytest.raises(UnknownMomentError):
        intake.ask(asks(moment="other"))


@pytest.mark.parametrize(
    ("consent", "reads"),
    [({}, True), ({"personalization": True}, True), ({"personalization": False}, False), ({"emotion": False}, True)],
)
def test_stored_features_are_read_only_with_personalization(
    intake: Intake, consent: dict[str, bool], reads: bool
) -> None:
    assert intake.ask(asks(consent=consent)).reads_stored is reads


def test_a_withheld_purpose_of_one_stored_feature_stops_the_whole_read(support: Pack, snapshot: Snapshot) -> None:
    """One read brings them all, and consent is checked before a feature is read (law 8)."""
    fields = {**support.fields, "nps": replace(support.fields["nps"], purpose="surveys")}
    intake = Intake({"support": replace(support, fields=fields)}, Champions({"support": snapshot}), b"s")
    assert not intake.ask(asks(consent={"surveys": False})).reads_stored
    assert intake.ask(asks(consent={"surveys": True})).reads_stored


def test_a_withheld_purpose_of_a_field_of_another_moment_stops_the_read_too(support: Pack, snapshot: Snapshot) -> None:
    """tone_tuner has no field `country`, but its value comes with the same read."""
    fields = {**support.fields, "country": replace(support.fields["country"], purpose="location")}
    intake = Intake({"support": replace(support, fields=fields)}, Champions({"support": snapshot}), b"s")
    assert not intake.ask(asks(consent={"location": False})).reads_stored


def test_consent_is_heeded_where_a_moment_has_a_purpose_or_a_stored_field(support: Pack, snapshot: Snapshot) -> None:
    plain = {name: replace(f, purpose=None, feature=None, max_age=None) for name, f in support.fields.items()}
    told = {**plain, "sentiment": support.fields["sentiment"]}
    stored = {**plain, "nps": support.fields["nps"]}
    heeded = []
    for fields in (plain, told, stored):
        intake = Intake({"support": replace(support, fields=fields)}, Champions({"support": snapshot}), b"s")
        heeded.append(intake.ask(asks()).heeds_consent)
    assert heeded == [False, True, True]


def test_what_is_withheld_is_what_the_subject_or_the_request_withholds(intake: Intake) -> None:
    asked = intake.ask(asks(moment="personalized_path", context={"hesitation_s": 3, "intent": "buy"}))
    stored = FeatureRow({}, {}, frozenset({"behavioural_timing"}))
    request = intake.request(asked, stored, degraded=False, now=NOW)
    assert (request.context.values["hesitation_s"], request.context.values["intent"]) == (None, "buy")
    assert "hesitation_s" in request.missing
    assert (request.ignored, request.degraded) == ((), ())
    given = intake.ask(asks(context={"sentiment": -0.5}, consent={"emotion": True}))
    narrowed = intake.request(given, FeatureRow({}, {}, frozenset({"emotion"})), degraded=False, now=NOW)
    assert narrowed.context.values["sentiment"] is None


def test_where_consent_is_unknown_the_requests_own_counts_and_the_decision_says_so(intake: Intake) -> None:
    asked = intake.ask(asks(context={"sentiment": -0.5}))
    request = intake.request(asked, FeatureRow({}, {}, None), degraded=True, now=NOW)
    assert (request.context.values["sentiment"], request.degraded) == (-0.5, ("features", "consent"))


def test_facts_of_the_request_come_before_stored_ones_and_defaults_last(intake: Intake) -> None:
    asked = intake.ask(asks(context={"nps": 3, "device": None}))
    stored = FeatureRow(
        {"nps": 9.0, "device": "tablet", "open_cases": 77.0, "unheard_of": 1.0}, {"customer_history": 5.0}
    )
    request = intake.request(asked, stored, degraded=False, now=NOW)
    values = request.context.values
    assert (values["nps"], values["device"], values["open_cases"]) == (3, "tablet", None)
    assert values["locale"] == "en"  # the field's default
    assert list(values) == list(asked.snapshot.pack.moment("tone_tuner").fields)
    assert (request.ignored, request.defaulted, request.age_s) == ((), (), {"customer_history": 5.0})


def test_a_strict_pack_refuses_what_the_request_has_wrong_but_not_what_the_store_has(
    support: Pack, snapshot: Snapshot
) -> None:
    from dataclasses import replace as with_pack

    strict = replace(support, strict=True)
    intake = Intake({"support": strict}, Champions({"support": with_pack(snapshot, pack=strict)}), b"s")
    stored = FeatureRow({"nps": "rubbish"}, {})
    assert intake.request(intake.ask(asks()), stored, degraded=False, now=NOW).context.values["nps"] is None
    with pytest.raises(ContextError) as refused:
        intake.request(intake.ask(asks(context={"sentiment": 5})), NOTHING_STORED, degraded=False, now=NOW)
    assert refused.value.field == "context.sentiment"


def test_the_fingerprint_is_of_the_body_without_its_id_and_keyed(intake: Intake, support: Pack) -> None:
    one = intake.fingerprint(asks(decision_id="a", context={"x": 1, "y": 2}))
    assert one == intake.fingerprint(asks(decision_id="b", context={"y": 2, "x": 1}))
    assert one != intake.fingerprint(asks(decision_id="a", context={"x": 1, "y": 3}))
    assert one != Intake({"support": support}, Champions({}), b"t" * 32).fingerprint(asks(context={"x": 1, "y": 2}))
