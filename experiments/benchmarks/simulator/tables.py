"""The result as tables in Markdown, as README.md has them."""

from __future__ import annotations

from typing import Any

from plain import PLAIN


def show(result: dict[str, Any]) -> None:
    """The tables, as README.md has them."""
    where = result["machine"]
    say(f"{result['taken']}, {where['cpu']}, one of {where['cores']} cores; decisions a CPU second, medians")
    for part, table in (
        ("ids", _show_ids),
        ("others", _show_others),
        ("same_content", _show_content),
        ("peers", _show_peers),
        ("growth", _show_growth),
        ("rllib", _show_rllib),
    ):
        if part in result:
            say("")
            table(result[part])


def _show_ids(ids: dict[str, Any]) -> None:
    widths = list(next(iter(ids.values()))["batched"])
    head = ("scalar as made", "unwrapped", *(f"batched {int(n):,}" for n in widths), "with truth", "times", "goal")
    _row("environment", *head)
    _row(*["---"] * (len(head) + 1))
    for id_, of in ids.items():
        truth = of.get("batched_with_expected_rewards", {}).get("median")
        met = f"{of['goal'] / 1e6:g} M: {'met' if of['goal_met'] else 'missed'}"
        _row(
            id_.removeprefix("nba/"),
            *(_k(of[form]["median"]) for form in ("scalar_as_made", "scalar_unwrapped")),
            *(_k(of["batched"][n]["median"]) for n in widths),
            _k(truth) if truth else "",
            f"{of['times_scalar_as_made']['median']:,.0f}",
            met,
        )


def _show_others(others: dict[str, Any]) -> None:
    _row("against", "its rate", "batched is times", "scalar as made is times")
    _row("---", "---", "---", "---")
    for name, of in others.items():
        times = [of[key]["median"] for key in ("batched_is_times", "batched_moment_is_times") if key in of]
        session = f", session {of['batched_session_is_times']['median']:,.3g}" if "CartPole" in name else ""
        scalar = f"{of['scalar_is_times']['median']:.3g}" if "scalar_is_times" in of else ""
        lead = "moment " if session else ""
        _row(name, _k(of["rate"]["median"]), f"{lead}{times[0]:,.4g}{session}", scalar)


def _show_content(content: dict[str, Any]) -> None:
    for id_, of in content.items():
        say(
            f"{id_}: rules earn {of['mean_reward'][0]:.4f}, plainly written {of['mean_reward'][1]:.4f}: "
            f"{of['reward_apart']:.1f} standard errors apart; of all that is seen, {of['worst_column']} most: "
            f"{of['worst_column_apart']:.1f}; {'the same content' if of['same'] else 'NOT THE SAME CONTENT'}"
        )


def _show_peers(peers: dict[str, Any]) -> None:
    head = [f"{form} {kind} is times" for form in ("batched", "scalar") for kind in ("moment", "session")]
    _row("peer", "version", "its rate", *head, "its step")
    _row(*["---"] * 8)
    for name, of in peers.items():
        if "rate" in of:
            forms_ = [f"{form} {id_} is times" for form in ("batched", "scalar") for id_ in PLAIN]
            times = [f"{of[form]['median']:,.3g}" for form in forms_]
            _row(name, of["version"], _k(of["rate"]["median"]), *times, of["step"])
        else:
            _row(name, "", f"absent: {of['absent']}", *[""] * 4, of["step"])


def _show_growth(table: dict[str, Any]) -> None:
    _row("cost of a call against", "sizes", "microseconds", "exponent", "of the larger half", "at the end", "growth")
    _row(*["---"] * 7)
    for what, of in table.items():
        ends = (of["sizes"][0], of["sizes"][-1])
        costs = (of["us_a_call"][0], of["us_a_call"][-1])
        _row(
            what,
            f"{ends[0]:,} to {ends[1]:,}",
            f"{costs[0]:,.0f} to {costs[1]:,.0f}",
            f"{of['exponent']:.2f}",
            f"{of['exponent_of_the_larger_half']:.2f}",
            f"{of['exponent_at_the_end']:.2f}",
            of["growth"],
        )


def _show_rllib(table: dict[str, Any]) -> None:
    _row("RLlib, PPO", "steps a CPU s sampled", "in all", "environment's share of sampling", "sampling to learning")
    _row(*["---"] * 5)
    for how, of in table.items():
        _row(
            how,
            _k(of["steps_a_cpu_second_sampled"]),
            _k(of["steps_a_cpu_second_in_all"]),
            f"{of['environment_share_of_sampling']:.1%}",
            f"{of['sampling_to_learning']:.2f}",
        )


def _row(*cells: str) -> None:
    say("| " + " | ".join(cells) + " |")


def _k(rate: float) -> str:
    """1.23 M, 45.6 k, 789."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if rate >= unit:
            return f"{rate / unit:.3g}{name}"
    return f"{rate:.3g}"


def say(text: str) -> None:
    """The tables."""
    print(text, flush=True)
