"""Figures hold what they are asked to show."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from nba.pack import Pack
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
