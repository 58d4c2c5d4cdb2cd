from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.errors import PackError
from nba.pack_yaml import MAX_BYTES, Document, read_document


def refusal(text: str | bytes) -> PackError:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(PackError) as caught:
        read_document(raw, "shop.yaml")
    return caught.value


def test_values_come_with_their_lines() -> None:
    document = read_document(b"a: 1\nb:\n  c: [x,\n      y]\n  d: {e: true}\n", "shop.yaml")
    assert document.plain == {"a": 1, "b": {"c": ["x", "y"], "d": {"e": True}}}
    assert document.lines[("b", "c", 0)] == 3
    assert document.lines[("b", "c", 1)] == 4
    assert document.lines[("b", "d", "e")] == 5


def test_an_error_names_file_line_path_and_the_way_out() -> None:
    document = read_document(b"a: 1\nb:\n  c: 2\n", "shop.yaml")
    error = document.error(("b", "c"), "2 is too much", "say 1")
    assert str(error) == "shop.yaml:3: b.c: 2 is too much\nhelp: say 1"
    assert error.field == "b.c"


def test_what_is_not_there_has_the_line_of_what_should_hold_it() -> None:
    document = read_document(b"a: 1\nb:\n  c: 2\n", "shop.yaml")
    assert str(document.error(("b", "x", "y"), "missing", "add it")).startswith("shop.yaml:2: b.x.y:")


def test_a_value_is_found_by_its_path_or_none() -> None:
    document = Document("shop.yaml", {"a": [1, {"b": 2}]})
    assert document.value(("a", 1, "b")) == 2
    assert document.value(("a", 5)) is None
    assert document.value(("a", 0, "b")) is None


def test_times_and_words_that_yaml_would_take_for_keys_stay_text() -> None:
    assert read_document(b"on: 2026-11-21\nno: 1\n", "x").plain == {"on": "2026-11-21", "no": 1}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", None, "the file is empty"),
        ("# nothing but words\n", None, "the file is empty"),
        ("a: 1\n\tb: 2\n", 2, "cannot start any token"),
        ("a: 1\n b: 2\n", 2, "mapping values are not allowed here"),
        ("a: [1, 2\nb: 3\n", 2, "expected ',' or ']'"),
        ("a: 'open\n", 2, "end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "but found another document"),
        ("a: 1\nb: 2\na: 3\n", 3, "'a' stands in line 1 already"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "'b' stands in line 2 already"),
        ("a: &x 1\nb: *x\n", 2, "an alias (*name)"),
        ("a: &x [*x]\n", 1, "an alias (*name)"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "an alias (*name)"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "a tag (tag:yaml.org,2002:python/object/apply:os.system)"),
        ("a: !mine b\n", 1, "a tag (!mine)"),
        ("a: !!binary aGk=\n", 1, "a tag"),
        ("a: !!bool perhaps\n", 1, "'perhaps' is no bool"),
        ("a: !!int b\n", 1, "'b' is no int"),
        ("a: .inf\n", 1, ".inf is not a finite number"),
        ("a: .nan\n", 1, ".nan is not a finite number"),
        ("a: 1.0e+999\n", 1, "1.0e+999 is not a finite number"),
        ("a: 1\nb: " + "9" * 5000 + "\n", 2, "is no int"),
        ("? [a, b]\n: 1\n", 1, "a key that is a list or a mapping"),
        ("a: 1\n{b: 1}: 2\n", 2, "a key that is a list or a mapping"),
        ("a: \x07\n", None, "special characters are not allowed"),
        ("[" * 5000, None, "nested too deeply"),
        ("{a: " * 5000, None, "nested too deeply"),
        ("- " * 5000, None, "nested too deeply"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: str, line: int | None, what: str) -> None:
    error = refusal(text)
    assert what in error.message
    assert error.message.startswith(f"shop.yaml:{line}: " if line else "shop.yaml")
    assert error.help


def test_a_file_that_is_not_utf_8_is_refused_with_the_line() -> None:
    assert str(refusal("title: ok\ntitle2: Größe\n".encode("latin-1"))).startswith("shop.yaml:2: not UTF-8\nhelp: save")


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert read_document(b"\xef\xbb\xbfa: 1\n", "x").plain == {"a": 1}


@pytest.mark.parametrize(
    ("text", "where"), [('a: 1\nb: "\\uD800"\n', "shop.yaml:2: b"), ('b:\n  "x\\uDFFF": 1\n', "shop.yaml:1: b")]
)
def test_half_a_character_is_refused_by_a_message_that_can_be_printed(text: str, where: str) -> None:
    error = refusal(text)
    assert error.message.startswith(where)
    assert "is not text" in error.message
    assert str(error).encode()


def test_a_huge_file_is_refused_at_once() -> None:
    started = time.process_time()
    assert f"more than {MAX_BYTES} bytes" in refusal(b"a: 1\n" * 10_000_000).message
    assert time.process_time() - started < 1.0


def test_a_billion_laughs_are_refused_at_once() -> None:
    """Ten lines of ten aliases each stand for ten thousand million values."""
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    started = time.process_time()
    assert refusal("\n".join(lines)).message == "shop.yaml:2: a1.0: an alias (*name)"
    assert time.process_time() - started < 1.0


@given(st.text(max_size=60) | st.text(alphabet="ab:- \n[]{}&*!|>'\"#,?%@`\t0.~<=", max_size=60))
def test_any_text_is_read_or_refused_in_a_word(text: str) -> None:
    with suppress(PackError):
        read_document(text.encode(), "shop.yaml")


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_in_a_word(raw: bytes) -> None:
    with suppress(PackError):
        read_document(raw, "shop.yaml")
