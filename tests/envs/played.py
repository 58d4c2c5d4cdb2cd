"""Every moment of a built-in pack that simulated customers play in one step, and its truth for facts by name."""

from __future__ import annotations

from envs.moments import MOMENTS
from envs.response import Response
from nba.facts import code_facts
from nba.moment_plan import plan_moment
from nba.pack_file import built_in_packs, load_pack
from nba.types import Value

PACKS = {name: load_pack(name) for name in built_in_packs()}
PLAYED = [(name, moment) for name, pack in PACKS.items() for moment in pack.moments if moment in MOMENTS]


def truth(pack: str, moment: str, **facts: Value) -> dict[str, float]:
    """Expected reward of each action, eligible or not, for one customer of whom only these facts are known."""
    response = Response.of(plan_moment(PACKS[pack], moment))
    encoder = response.plan.encoder
    expected = response.expected_rewards(encoder.encode(code_facts(encoder.fields, [facts])))
    return dict(zip(response.plan.action_ids, expected[0].tolist(), strict=True))


def best(pack: str, moment: str, **facts: Value) -> str:
    """The action of the highest expected reward, eligible or not."""
    values = truth(pack, moment, **facts)
    return max(values, key=lambda action: values[action])
