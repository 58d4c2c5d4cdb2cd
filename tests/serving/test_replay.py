from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from nba.artefact import load_artefact
from nba.decide import decide
from nba.decision import Decision, DecisionRequest
from nba.types import Context
from serving.answers import without_claim
from serving.errors import NotFoundError
from serving.replay import Replayer

SECRET = b"x" * 32
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def policies(tmp_path: Path, artefacts: dict[str, Path]) -> Path:
    for folder in artefacts.values():
        shutil.copytree(folder, tmp_path / load_artefact(folder).policy.digest)
    return tmp_path


@pytest.fixture
def logged(artefacts: dict[str, Path]) -> Decision:
    snapshot = load_artefact(artefacts["uniform"], version="7", arm="champion")
    context = Context(subject="s", moment="tone_tuner", values={"sentiment": -0.7}, observed_at=NOW)
    return decide(snapshot, DecisionRequest(decision_id="d", context=context), now=NOW, secret=SECRET)


def test_a_decision_comes_out_the_same(policies: Path, logged: Decision) -> None:
    answer = asyncio.run(Replayer(policies, SECRET).replay(logged))
    assert answer.identical


def test_what_was_noted_after_deciding_is_no_difference(policies: Path, logged: Decision) -> None:
    assert asyncio.run(Replayer(policies, SECRET).replay(without_claim(logged))).identical


def test_a_difference_is_told_field_by_field(policies: Path, logged: Decision) -> None:
    answer = asyncio.run(Replayer(policies, SECRET).replay(replace(logged, propensity=0.5)))
    assert (answer.identical, answer.difference) == (False, {"propensity": (0.5, logged.propensity)})


def test_another_secret_gives_another_draw(policies: Path, logged: Decision) -> None:
    answer = asyncio.run(Replayer(policies, b"y" * 32).replay(logged))
    assert isinstance(answer.difference, dict)
    assert "draw" in answer.difference


def test_a_policy_that_is_gone_is_named(policies: Path, logged: Decision) -> None:
    shutil.rmtree(policies / logged.policy.digest)
    with pytest.raises(NotFoundError) as refused:
        asyncio.run(Replayer(policies, SECRET).replay(logged))
    assert logged.policy.digest[:12] in refused.value.help
