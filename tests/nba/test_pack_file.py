from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nba.errors import PackError
from nba.pack import Pack
from nba.pack_file import built_in_packs, load_pack, parse_pack


def refusal(text: str) -> PackError:
    with pytest.raises(PackError) as caught:
        parse_pack(text.encode(), source="shop.yaml")
    return caught.value


@pytest.mark.parametrize("name", sorted(built_in_packs()))
def test_every_built_in_pack_is_sound_and_has_the_name_of_its_file(name: str) -> None:
    assert load_pack(name).pack == name


def test_a_pack_is_read_from_a_file(tmp_path: Path, shop_text: str, shop: Pack) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(shop_text, encoding="utf-8")
    assert load_pack(path) == load_pack(str(path)) == shop


@pytest.mark.parametrize("name", ["suport", "/nowhere/pack.yaml", "a\0b", "x" * 5000, ".", ""])
def test_a_pack_that_cannot_be_read_is_named_with_what_is_there(name: str) -> None:
    with pytest.raises(PackError, match="cannot read pack") as caught:
        load_pack(name)
    assert "support" in caught.value.help


@pytest.mark.parametrize(
    ("old", "new", "path", "what", "way_out"),
    [
        # Keys
        ("    window: 24h", "    windw: 24h", "moments.basket.windw", "unknown key 'windw'", "did you mean 'window'?"),
        ("    window: 24h\n", "", "moments.basket", "missing required field `window`", "add it"),
        ("version: 1\nrew", "verison: 1\nrew", "verison", "unknown key 'verison'", "did you mean 'version'?"),
        ("{type: boolean}", "{typ: boolean}", "fields.member.typ", "unknown key 'typ'", "did you mean 'type'?"),
        ("action: remind}", "act: remind}", "moments.basket.rules.1.act", "unknown key 'act'", "did you mean 'action'"),
        ("  annoyed: {}", "  annoyed: {rnage: [0, 1]}", "outcomes.annoyed.rnage", "unknown key", "mean 'range'?"),
        ("  member: {", "  Member: {", "fields.Member", "matching regex", "lower-case letters"),
        ("  greet:\n", "  greet-all:\n", "actions.greet-all", "found 'greet-all'", "lower-case letters"),
        ("      warm: {en", "      Warm: {en", "actions.greet.treatments.Warm", "found 'Warm'", "lower-case letters"),
        # Types and values
        ("pack: shop", "pack: My Shop", "pack", "found 'My Shop'", "lower-case letters"),
        ("version: 1\nrew", "version: 0\nrew", "version", "Expected `int` >= 1, found 0", "whole number"),
        ("version: 1\nrew", "version: '1'\nrew", "version", "found '1'", "without quotes"),
        ("window: 24h", "window: 24", "moments.basket.window", "found 24", "90s, 15m, 24h, 7d"),
        ("window: 24h", "window: 1 day", "moments.basket.window", "found '1 day'", "90s, 15m, 24h, 7d"),
        ("type: number,", "type: numeric,", "fields.mood.type", "'numeric'", "number, category, boolean, time"),
        ("layer: emotional", "layer: emotion", "actions.offer.layer", "'emotion'", "cognitive, emotional, procedural"),
        ("[mobile, desktop]", "[yes, no]", "fields.device.values.0", "found True", "stands in quotes"),
        ("[mobile, desktop]", "[mobile, 7]", "fields.device.values.1", "found 7", "stands in quotes"),
        ("cost: 0.2", "cost: -0.2", "actions.offer.cost", "found -0.2", "write a number in range"),
        ("cost: 0.2", "cost: cheap", "actions.offer.cost", "found 'cheap'", "write a number"),
        ("cost: 0.2", "cost: .nan", "actions.offer.cost", ".nan is not a finite number", "write a number"),
        ("annoyed: -0.5", "annoyed: bad", "moments.basket.reward.annoyed", "found 'bad'", "write a number"),
        ("{en: Good day}", "{en: 5}", "actions.greet.treatments.formal.en", "found 5", "stands in quotes"),
        ("[-1, 1]", "[-1]", "fields.mood.range", "length 2, got 1", "[a, b]"),
        ("[-1, 1]", "[1, -1]", "fields.mood.range", "[1.0, -1.0] is no range", "low < high"),
        ("[-1, 1]", "[0, 0]", "fields.mood.range", "is no range", "low < high"),
        ("[-1, 1]", "[-1.7e+308, 1.7e+308]", "fields.mood.range", "is no range", "low < high"),
        ("languages: [en, de]", "languages: []", "languages", "length >= 1", "[a, b]"),
        ("[greet, remind, offer]", "[]", "moments.basket.actions", "length >= 1", "[a, b]"),
        (
            "fields: [mood, device, member, local_time]",
            "fields: mood",
            "moments.basket.fields",
            "found 'mood'",
            "[a, b]",
        ),
        # Fields
        (", range: [-1, 1]", "", "fields.mood", "a number without a range", "range: [0, 100]"),
        (", values: [mobile, desktop]", "", "fields.device", "a category without values", "values: [a, b]"),
        (
            "{type: boolean}",
            "{type: boolean, range: [0, 1]}",
            "fields.member.range",
            "a boolean with a range",
            "number",
        ),
        (
            "{type: boolean}",
            "{type: boolean, values: [a]}",
            "fields.member.values",
            "a boolean with values",
            "category",
        ),
        ("[mobile, desktop]", "[mobile, mobile]", "fields.device.values", "a value stands twice", "once"),
        ("[-1, 1]", "[-1, 1], default: 3", "fields.mood.default", "3.0 is not a number in [-1, 1]", "drop it"),
        ("{type: boolean}", "{type: boolean, default: 1}", "fields.member.default", "is not true or false", "drop it"),
        ("{type: time}", "{type: time, default: soon}", "fields.local_time.default", "ISO 8601", "drop it"),
        ("{type: time}", "{type: time, feature: clock}", "fields.local_time.feature", "'clock'", "view:feature"),
        ("{type: time}", "{type: time, max_age: 1w}", "fields.local_time.max_age", "found '1w'", "7d"),
        ("  member: {type: boolean}", "  class: {type: boolean}", "fields.class", "has a meaning", "class_value"),
        ("  member: {type: boolean}", "  always: {type: boolean}", "fields.always", "has a meaning", "always_value"),
        ("languages: [en, de]", "locale_field: mood", "locale_field", "'mood' is no category field", "name one"),
        ("languages: [en, de]", "locale_field: lang", "locale_field", "'lang' is no category field", "name one"),
        # Names that do not exist
        ("fields: [mood, ", "fields: [mod, ", "moments.basket.fields", "unknown field 'mod'", "did you mean 'mood'?"),
        ("fields: [mood, ", "fields: [device, ", "moments.basket.fields", "'device' stands twice", "keep one"),
        ("[greet, remind, offer]", "[greet, remnid]", "moments.basket.actions", "'remnid'", "did you mean 'remind'?"),
        ("bought: 1.0", "baught: 1.0", "moments.basket.reward", "unknown outcome 'baught'", "did you mean 'bought'?"),
        ("action: offer}", "action: ofer}", "moments.basket.rules.0.action", "unknown action", "mean 'offer'?"),
        ("remove: [remind]", "remove: [remnd]", "guardrails.night.remove", "'remnd'", "did you mean 'remind'?"),
        ("cost: 0.2}", "metric: sold}", "actions.offer.metric", "unknown outcome 'sold'", "known are bought, annoyed"),
        ("formal: {en", "formal: {fr: Jour, en", "actions.greet.treatments.formal.fr", "'fr'", "known are en, de"),
        ("formal: {en", "formal: {de", "actions.greet.treatments.formal", "no message in 'en'", "fallback"),
        ("languages: [en, de]", "candidates: [squre_cb]", "candidates", "'squre_cb'", "did you mean 'square_cb'?"),
        # no_action
        ("[greet, remind, offer]", "[no_action, greet]", "moments.basket.actions", "is always there", "drop it"),
        ("remove: [remind]", "remove: [no_action]", "guardrails.night.remove", "always eligible", "drop it"),
        ("  offer: {layer", "  no_action: {layer", "moments.basket.actions", "unknown action 'offer'", "known are"),
        # Conditions
        ("mood < 0.5", "moood < 0.5", "actions.remind.trigger", "unknown field 'moood'", "fields are mood, device"),
        ("mood < -0.5", "mood < -5", "moments.basket.rules.0.when", "-5 is not a value of mood", "[-1, 1]"),
        ("local_time.hour >= 22", "local_time >= 22", "guardrails.night.when", "22 is not a value", "ISO 8601"),
        ("when: member", "when: membr", "moments.basket.rules.1.when", "(in moment 'basket')", "mood, device, member"),
        ("remove: [remind]", "remove: []", "guardrails.night.remove", "length >= 1", "[a, b]"),
        ("[greet, remind, offer]", "[greet, offer]", "moments.basket.rules.1.action", "'remind'", "no_action, greet"),
    ],
)
def test_an_error_names_file_line_field_value_and_the_way_out(
    shop_text: str, old: str, new: str, path: str, what: str, way_out: str
) -> None:
    assert shop_text.count(old) == 1
    text = shop_text.replace(old, new)
    error = refusal(text)
    assert what in error.message
    assert way_out in error.help
    assert error.field is not None
    assert error.field.startswith(path)
    line = int(error.message.removeprefix("shop.yaml:").split(":")[0])
    shown = text.splitlines()[line - 1]
    last = [part for part in error.field.split(".") if not part.isdigit()][-1]
    assert last in shown or new.strip() in shown


def test_a_guardrail_that_can_remove_nothing_is_refused(shop_text: str) -> None:
    """Its action is in the pack, but in none of the moments it names."""
    text = shop_text.replace("[greet, remind, offer]", "[greet, offer]").replace("action: remind", "action: greet")
    assert "none of its moments has one of these actions" in refusal(text).message


def test_the_trigger_of_an_action_in_no_moment_is_read_all_the_same(shop_text: str) -> None:
    spare = "  spare: {layer: cognitive, channel: chat, trigger: moood > 0}\nguardrails:"
    assert refusal(shop_text.replace("guardrails:", spare)).field == "actions.spare.trigger"


def test_of_two_moments_the_one_that_is_wrong_is_named(shop_text: str) -> None:
    """msgspec says only that some moment's window is wrong; both have one, and only the second is."""
    start, end = shop_text.index("  basket:"), shop_text.index("actions:\n  greet")
    second = shop_text[start:end].replace("basket", "search").replace("24h", "24 h")
    error = refusal(shop_text[:end] + second + shop_text[end:])
    assert error.field == "moments.search.window"


def test_the_first_of_several_mistakes_is_named_rightly(shop_text: str) -> None:
    text = shop_text.replace("cost: 0.2", "cost: dear").replace("cost: 0.1", "cost: dear too")
    assert refusal(text).field == "actions.greet.cost"


@pytest.mark.parametrize("text", ["a", "[1, 2]", "12", "{}", "pack: a", "fields: 3", "moments: {a: 1}"])
def test_what_is_no_pack_at_all_is_refused(text: str) -> None:
    assert refusal(text).message.startswith("shop.yaml:1: ")


def test_a_pack_may_describe_its_own_no_action(shop_text: str) -> None:
    mine = "  no_action: {layer: procedural, channel: mail, trigger: always, cost: 0.05, description: No E-Mail}\n"
    pack = parse_pack(shop_text.replace("guardrails:", mine + "guardrails:").encode(), source="shop.yaml")
    assert pack.action("no_action").description == "No E-Mail"
    assert pack.reward_range("basket") == (-0.5 - 0.2, 1.0 - 0.0)
    assert pack.moment("basket").action_ids == ("no_action", "greet", "remind", "offer")


@pytest.mark.parametrize("extra", ["trigger: mood < 0", "trigger: always, treatments: {a: {en: Hi}}"])
def test_a_no_action_that_is_not_always_possible_or_speaks_is_refused(shop_text: str, extra: str) -> None:
    mine = f"  no_action: {{layer: procedural, channel: mail, {extra}}}\nguardrails:"
    assert refusal(shop_text.replace("guardrails:", mine)).field == "actions.no_action"


SPOILT = ["", "x", "  x: 1", "- 1", "x: [", "x: {a: b}", "\t", "type: 1", "null", "? x"]


@given(number=st.integers(0, 40), line=st.sampled_from(SPOILT), added=st.booleans())
def test_a_pack_with_any_line_spoilt_is_read_or_refused_in_a_word(
    shop_text: str, number: int, line: str, added: bool
) -> None:
    text = shop_text.splitlines()
    text[number : number + (not added)] = [line]
    with suppress(PackError):
        parse_pack("\n".join(text).encode(), source="shop.yaml")


def test_threads_may_be_the_first_to_read_a_pack() -> None:
    """What msgspec knows of a type is not made safely by two threads at once: the process would end by SIGSEGV."""
    program = """
import sys, threading
from nba.pack_file import load_pack
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=load_pack, args=("support",)) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    for _ in range(4):
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
