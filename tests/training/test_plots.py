"""Figures hold what they are asked to show."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from envs.calibration.match import match
from envs.calibration.population import FieldMean
from envs.calibration.response import fit_response
from envs.response import Response
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import load_pack
from tests.envs.calibration.made import closed_rounds
from tests.training.conftest import played, snapshot, uniform
from training import plots
from training.evaluate import evaluate
from training.learn import from_simulator
from training.truth import SimulatedMoment

Simulated = dict[str, SimulatedMoment]


def drawn(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_a_learning_curve_has_a_panel_a_moment_with_every_yardstick(pack: Pack, simulated: Simulated) -> None:
    learned = from_simulator(pack, "square_cb", simulated, rounds=100, seed=0)
    figure = plots.learning_curve(learned, {m: playground.yardsticks for m, playground in simulated.items()})
    panels = [panel for panel in figure.axes if panel.axison]
    assert [panel.get_title() for panel in panels] == list(simulated)
    for panel in panels:
        levels = {line.get_label(): line.get_ydata()[-1] for line in panel.get_lines()}
        told = simulated[panel.get_title()].yardsticks
        assert levels["oracle"] == told.oracle
        assert (levels["uniform"], levels["rules"]) == (told.uniform, told.rules)
        assert levels["square_cb"] == [s.value for s in learned.curve if s.moment == panel.get_title()][-1]
    assert drawn(figure).startswith(b"\x89PNG")


def test_estimates_show_the_whole_and_each_moment(pack: Pack, simulated: Simulated) -> None:
    told = evaluate(
        uniform(pack),
        uniform(pack),
        played(simulated, uniform(pack), each=60, seed=0),
        rng=np.random.default_rng(0),
        simulated=simulated,
    )
    figure = plots.estimates(told)
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == ["all moments", "by ips", "by snips", "by direct method", *told.moments]
    assert drawn(figure).startswith(b"\x89PNG")


def test_estimates_do_without_a_champion_and_without_truth(pack: Pack, simulated: Simulated) -> None:
    rounds = {"tone_tuner": played(simulated, uniform(pack), each=60, seed=0)["tone_tuner"]}
    told = evaluate(uniform(pack), None, rounds, rng=np.random.default_rng(0))
    assert drawn(plots.estimates(told)).startswith(b"\x89PNG")


def test_weights_are_told_by_moment_with_their_mean(pack: Pack, simulated: Simulated) -> None:
    challenger = snapshot(pack, dict(from_simulator(pack, "square_cb", simulated, rounds=100, seed=0).policies))
    figure = plots.weights(challenger, played(simulated, uniform(pack), each=60, seed=0))
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert [label.split(" ")[0] for label in labels[:-1]] == list(simulated)
    assert drawn(figure).startswith(b"\x89PNG")


def test_calibration_is_drawn_before_and_after() -> None:
    pack = load_pack("support")
    rounds = closed_rounds(pack, "proactive_nudge", 300)
    response = Response.of(plan_moment(pack, "proactive_nudge"))
    before, after = match(response, rounds), match(response, rounds, fit_response(response, rounds))
    outcomes = ["satisfied", "inbound_contact", "annoyed"]
    figure = plots.reliability(before, after)
    assert [panel.get_title() for panel in figure.axes] == [f"proactive_nudge: {outcome}" for outcome in outcomes]
    drawn(figure)
    bars = plots.by_action(before, after)
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == list(response.plan.action_ids)
    drawn(bars)


def test_field_means_are_drawn_in_standard_errors() -> None:
    """Logged 1, before 3, after 1.5, error 0.5: 4 and 1."""
    figure = plots.field_means([FieldMean("m", "mood", 1.0, 3.0, 1.5, 0.5)])
    before, after = figure.axes[0].get_lines()
    assert (before.get_xdata()[0], after.get_xdata()[0]) == (4.0, 1.0)
    drawn(figure)
