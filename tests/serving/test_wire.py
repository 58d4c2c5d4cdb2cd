from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import wire
from serving.errors import InvalidError, NotJsonError
from serving.wire import ActivateBody, DecideBody, RewardBody, read_batch, read_body, refuse_ambiguous

GOOD = b'{"subject_id":"u","moment":"m"}'


def test_a_minimal_body_takes_the_defaults_of_the_contract() -> None:
    body = read_body(GOOD, DecideBody)
    assert (body.explore, body.defer_activation, body.dry_run, body.explain) == (True, False, False, False)
    assert (body.actions, body.exclude, body.context, body.consent) == (None, (), {}, {})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"moment":"m"}', "subject_id"),
        (b'{"subject_id":5,"moment":"m"}', "subject_id"),
        (b'{"subject_id":"u","moment":"m","consent":{"x":1}}', "consent[...]"),
        (b'{"subject_id":"u","moment":"m","colour":"red"}', "colour"),
        (b'{"subject_id":"u","moment":"m","timeout_ms":"5"}', "timeout_ms"),
    ],
)
def test_the_field_that_is_wrong_is_named(raw: bytes, field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_body(raw, DecideBody)
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["", "a b", "ä", "a/b", "a\n", "x" * 129])
def test_an_id_is_of_the_alphabet_of_the_contract(name: str) -> None:
    with pytest.raises(InvalidError):
        read_body(msgspec.json.encode({"subject_id": name, "moment": "m"}), DecideBody)


def test_every_letter_of_the_alphabet_makes_an_id() -> None:
    name = "AZaz09._:-" * 12
    assert read_body(msgspec.json.encode({"subject_id": name, "moment": "m"}), DecideBody).subject_id == name


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(InvalidError) as refused:
        read_body(b'{"activated_at":"2026-11-21T08:30:00"}', ActivateBody)
    assert refused.value.field == "activated_at"


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(InvalidError):
        read_body(b'{"outcome":"resolved","value":true}', RewardBody)


@pytest.mark.parametrize("raw", [b'{"a":1,"a":1}', b'{"a":[{"b":1,"b":2}]}', b'{"a":1,"\\u0061":2}'])
def test_a_key_that_stands_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidError):
        refuse_ambiguous(raw)


@pytest.mark.parametrize(("raw", "fits"), [(str(2**63 - 1), True), (str(2**63), False), (str(-(2**63)), True)])
def test_an_integer_fits_in_64_bits_or_is_refused(raw: str, fits: bool) -> None:
    if fits:
        refuse_ambiguous(raw.encode())
    else:
        with pytest.raises(InvalidError):
            refuse_ambiguous(raw.encode())


def test_a_batch_keeps_its_order_and_each_error_its_place() -> None:
    first, second, third = read_batch(b'{"decisions":[%b,{"moment":1},%b]}' % (GOOD, GOOD))
    assert isinstance(first, DecideBody)
    assert isinstance(second, InvalidError)
    assert isinstance(third, DecideBody)


def test_a_batch_that_is_not_json_is_refused_whole() -> None:
    with pytest.raises(NotJsonError):
        read_batch(b'{"decisions":[%b,{]}' % GOOD)


_keys = st.sampled_from(['"a"', '"b:"', '"c\\u003a"', '" "'])
_texts = st.sampled_from(
    ['"::"', '"\\u003a"', '"x"', "1", "-9223372036854775808", "9223372036854775808", "1e3", "null"]
)
_bodies = st.recursive(
    _texts,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ",".join(parts) + "]"),
        st.lists(st.tuples(_keys, st.sampled_from([":", " : "]), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(key + colon + value for key, colon, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@given(_bodies)
def test_the_short_way_lets_nothing_through_that_the_long_way_refuses(body: str) -> None:
    try:
        json.loads(body, object_pairs_hook=wire._unique, parse_int=wire._integer)
        ambiguous = False
    except InvalidError:
        ambiguous = True
    assert not (ambiguous and wire._plain(body.encode()))
    if not ambiguous and "\\" not in body:
        assert wire._plain(body.encode())  # and is taken wherever it can be


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_from_which_no_other_can_be_reckoned_is_refused(time: str) -> None:
    with pytest.raises(InvalidError, match="is not in 1970 to 2999") as refused:
        read_body(msgspec.json.encode({"activated_at": time}), ActivateBody)
    assert refused.value.field == "activated_at"


def test_an_error_repeats_no_more_of_a_key_than_can_be_read() -> None:
    with pytest.raises(InvalidError) as refused:
        read_body(msgspec.json.encode({"x" * 10_000: 1}), ActivateBody)
    assert len(str(refused.value)) < 600


def test_a_batch_item_that_is_not_utf8_spoils_no_other() -> None:
    body = b'{"decisions": [{"subject_id": "u", "moment": "m", "context": {"a": "\xe8\xa7v"}}, ' + GOOD + b"]}"
    spoilt, good = read_batch(body)
    assert isinstance(spoilt, NotJsonError)
    assert isinstance(good, DecideBody)
