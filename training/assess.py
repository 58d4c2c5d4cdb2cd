"""A registered version before the gate: judged against the champion, on rounds that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from numpy.random import Generator

from nba.home import Home
from nba.pack import Pack
from training import plots
from training.evaluate import Evaluation, evaluate
from training.gate import Gate, Verdict, judge
from training.tracking import Tracking, Version
from training.truth import Playground
from training.versions import load
from training.window import Split, Window


@dataclass(frozen=True, slots=True)
class Assessment:
    """A version, what it would earn, and whether it may serve."""

    version: Version
    evaluation: Evaluation
    verdict: Verdict


def assess(
    home: Home,
    tracking: Tracking,
    pack: Pack,
    version: Version,
    champion: Version | None,
    window: Window,
    gate: Gate,
    rng: Generator,
    *,
    simulated: Mapping[str, Playground] | None = None,
) -> Assessment:
    """The verdict on a version, by the customers of the window that its split holds out.

    Recorded in the version's run (figures at step = rounds of the window) and, in a word, in its tag `verdict`; once
    for each window and champion. Raises EmptyLogError where no customer is held out, ArtefactError where the version
    was made for another pack.
    """
    _, held_out = window.split(Split.of(version.tags))
    comparable = champion is not None and champion.tags.get("pack_digest") == pack.digest
    challenger = load(home, tracking, version, pack)
    serving = load(home, tracking, champion, pack) if champion is not None and comparable else None
    evaluation = evaluate(challenger, serving, held_out, rng=rng, simulated=simulated)
    verdict = judge(evaluation, gate, waiting=window.waiting)
    if champion is not None and not comparable:
        told = f"the champion, version {champion.version}, was made for another version of the pack: nothing to compare"
        verdict = Verdict(False, (told,), verdict.cautions)
    summary = f"{'promote' if verdict.promote else 'refuse'}: {'; '.join(verdict.reasons)}"
    judged_on = f"{window.digest[:16]} against {champion.version if champion else 'nothing'}"
    if version.tags.get("judged_on") != judged_on:
        with tracking.resume(version.pack, version.run_id) as run:
            run.metrics(evaluation.metrics(), step=len(window))
            run.figure(plots.estimates(evaluation), "estimates")
            run.figure(plots.weights(challenger, held_out), "weights")
        tracking.tag(version, verdict=summary, judged_on=judged_on)
    return Assessment(version, evaluation, verdict)
