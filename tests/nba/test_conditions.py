from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nba.conditions import MAX_LENGTH, parse
from nba.errors import ConditionError
from nba.facts import Field, code_facts

FIELDS = {
    "mood": Field(type="number", range=(-1.0, 1.0)),
    "device": Field(type="category", values=("mobile", "desktop", "tablet")),
    "member": Field(type="boolean"),
    "local_time": Field(type="time"),
}
KNOWN = {"mood": -0.5, "device": "mobile", "member": True, "local_time": "2026-11-21T08:30:00"}  # a Saturday

ATOMS = st.sampled_from(
    [
        "mood < 0",
        "mood <= -0.5",
        "mood > 0.25",
        "mood >= 0",
        "mood == -0.5",
        "mood != 1",
        'device == "mobile"',
        'device != "mobile"',
        'device in ("mobile", "tablet")',
        'device not in ["desktop"]',
        "member",
        "member == False",
        "missing(mood)",
        "local_time.hour < 8",
        "local_time.weekday in (5, 6)",
        'local_time > "2026-01-01T00:00:00"',
    ]
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
        | inner.map(lambda text: f"not ({text})")
    ),
    max_leaves=6,
)
FACTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 5), st.just(len(FIELDS))),
    elements=st.sampled_from([np.nan, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0, 1.7e9, 1.8e9]) | st.floats(-1e10, 1e10),
)


def holds(text: str, **facts: object) -> bool:
    return bool(parse(text, FIELDS)(code_facts(FIELDS, [facts]))[0])


@pytest.mark.parametrize(
    "text",
    [
        "mood < -0.3",
        "mood <= -0.5",
        "mood >= -0.5",
        "mood == -0.5",
        "mood != 0",
        'device == "mobile"',
        'device in ("tablet", "mobile")',
        'device not in ("desktop",)',
        "member",
        "member == True",
        "not missing(mood)",
        "local_time.hour == 8.5",
        "local_time.weekday == 5",
        'local_time < "2026-11-21T09:00:00"',
        'mood < 0 and (device == "desktop" or member)',
        "always",
        " always ",
        "mood < 0\n  and member",
    ],
)
def test_a_condition_that_holds(text: str) -> None:
    assert holds(text, **KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "mood < -0.5",
        "mood > -0.5",
        'device != "mobile"',
        'device in ("desktop", "tablet")',
        "not member",
        "member == False",
        "missing(mood)",
        "local_time.hour < 8",
        "local_time.weekday < 5",
        'mood < 0 and device == "desktop"',
        "not (mood < 0)",
    ],
)
def test_a_condition_that_does_not_hold(text: str) -> None:
    assert not holds(text, **KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "mood < 0",
        "mood >= 0",
        "mood == 0",
        "mood != 0",
        'device in ("mobile",)',
        'device not in ("mobile",)',
        "member",
        "member != True",
        "local_time.hour < 8",
        "local_time.weekday != 0",
    ],
)
def test_a_comparison_with_a_missing_fact_is_false_and_its_negation_true(text: str) -> None:
    assert not holds(text)
    assert holds(f"not ({text})")


def test_missing_can_be_asked_for() -> None:
    assert holds("missing(mood) and not missing(device)", device="tablet")


@given(CONDITIONS, FACTS)
def test_a_row_alone_gives_what_it_gives_among_others(text: str, facts: np.ndarray) -> None:
    condition = parse(text, FIELDS)
    together = condition(facts)
    assert together.shape == (len(facts),)
    assert together.dtype == np.bool_
    assert [bool(condition(row)) for row in facts] == together.tolist()


@given(CONDITIONS, CONDITIONS, FACTS)
def test_and_or_and_not_are_those_of_logic(one: str, other: str, facts: np.ndarray) -> None:
    first, second = parse(one, FIELDS)(facts), parse(other, FIELDS)(facts)
    assert parse(f"({one}) and ({other})", FIELDS)(facts).tolist() == (first & second).tolist()
    assert parse(f"({one}) or ({other})", FIELDS)(facts).tolist() == (first | second).tolist()
    assert parse(f"not ({one})", FIELDS)(facts).tolist() == (~first).tolist()


@pytest.mark.parametrize(
    ("text", "what", "column"),
    [
        ("moood < 0", "unknown field 'moood'", 1),
        ("mood < 0 and devise == 1", "unknown field 'devise'", 14),
        ("mood < 3", "3 is not a value of mood", 8),
        ('device == "phone"', "'phone' is not a value of device", 11),
        ("device == mobile", "the right side of device is not a constant", 11),
        ("member == true", "the right side of member is not a constant", 11),
        ('device < "tablet"', "this field has no order", 1),
        ("mood", "'mood' is not a boolean field", 1),
        ("-1 < mood < 1", "a chain of comparisons", 1),
        ("0 < mood", "a comparison starts with a field", 1),
        ("mood.hour < 3", "'mood' is not a time field", 1),
        ("local_time.year < 3", "a comparison starts with a field", 1),
        ("mood in 3", "`in` needs a list of values", 1),
        ("device in ()", "`in` needs a list of values", 1),
        ("mood is None", "unknown operator", 1),
        ("mood == None", "None is not a value of mood", 9),
        ("local_time.hour < True", "True is not a value of local_time.hour", 19),
        ("local_time.hour < 1e400", "inf is not a value of local_time.hour", 19),
        ("mood + 1 < 0", "a comparison starts with a field", 1),
        ("missing(mood, device)", "this is not allowed", 1),
        ("missing()", "this is not allowed", 1),
        ("missing(m=mood)", "this is not allowed", 1),
        ('device == "ü" or moood < 0', "'ü' is not a value of device", 11),
        ('device != "mobile" or "ü" == device', "a comparison starts with a field", 23),
        ('device in ("mobile", "ü") or mood < 0', "'ü' is not a value of device", 22),
        ("mood = 1", "invalid syntax", 6),
        ("mood < 0 && member", "invalid syntax", 11),
        ("mood < ", "invalid syntax", 7),
        ("", "invalid syntax", 1),
    ],
)
def test_an_error_names_what_is_wrong_and_the_column(text: str, what: str, column: int) -> None:
    with pytest.raises(ConditionError) as caught:
        parse(text, FIELDS)
    assert what in caught.value.message
    assert f"at column {column}" in caught.value.message
    assert caught.value.help


def test_a_column_counts_characters_not_bytes() -> None:
    """In UTF-8 the umlaut takes two bytes; the reader sees `moood` in column 21."""
    fields = {"device": Field(type="category", values=("ü",))}
    with pytest.raises(ConditionError, match="at column 18"):
        parse('device == "ü" or moood < 0', fields)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "mood.__class__ == 1",
        "mood.__class__.__bases__[0] == 1",
        "(lambda: 1)() < 2",
        "[mood for mood in (1,)] == 1",
        "mood if member else mood",
        "f'{mood}' == 'a'",
        "mood < open('/etc/passwd')",
        "mood < (1).__class__",
        "mood := 1",
        "(mood := 1)",
        "await mood",
        "*mood",
        "eval",
        "exec('1')",
        "mood < 9**9**9**9",
        "mood < " + "9" * 480,
        "mood < -" + "-" * 450 + "1",
        "(" * 240 + "member" + ")" * 240,
        "not " * 120 + "mood",
        "[" * 490,
        "member" + " and member" * 50,
        "mood < 1\0",
        "mood < 0; member",
        "mood < 0\nimport os",
        "mood\\\n< 0 #",
        '"' * 499,
        "member " * 1000,
        "{}[mood]",
        "missing(missing(mood))",
        "missing('mood')",
        "device in {'mobile': 1}",
        "device in ('mobile', [])",
        "mood < b'1'",
        "mood < 1j",
        "𝓶ood < a",
    ],
)
def test_hostile_text_is_refused_in_a_word(text: str) -> None:
    with pytest.raises(ConditionError):
        parse(text, FIELDS)


@given(st.text(max_size=MAX_LENGTH + 10) | st.text(alphabet="mod ()<>=!.'\"[]{}0-9andornti#\\\n\t,:*", max_size=80))
def test_any_text_parses_or_is_refused_in_a_word(text: str) -> None:
    try:
        condition = parse(text, FIELDS)
    except ConditionError:
        return
    assert condition(np.full((2, len(FIELDS)), np.nan)).shape == (2,)


def test_the_longest_condition_holds_and_a_longer_one_is_refused() -> None:
    long = "member or " * 49 + "member"
    assert len(long) <= MAX_LENGTH
    assert holds(long, member=True)
    with pytest.raises(ConditionError, match="of 506 characters"):
        parse("member or " * 50 + "member", FIELDS)
