"""`nba simulate` as it is called: every option reaches the drive, and the report says what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import envs.load.run
from envs.calibration.parameters import Calibration, ResponseParameters, save_calibration
from envs.load.report import DriveReport
from envs.load.settings import DriveSettings
from nba.cli import app
from nba.pack import Pack
from nba.pack_file import load_pack
from tests.envs.load.driven import QUICK
from tests.envs.load.stub_server import START, StubServer

PACK = load_pack("support")
Invoke = Callable[..., str]


@pytest.fixture
def asked() -> list[DriveSettings]:
    """The settings of each drive."""
    return []


@pytest.fixture
def tokens() -> list[str | None]:
    """The token of each drive."""
    return []


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, asked: list[DriveSettings], tokens: list[str | None]) -> Invoke:
    """The command against a stub server; its output."""
    real = envs.load.run.drive

    async def stubbed(url: str, pack: Pack, settings: DriveSettings, **how: Any) -> DriveReport:
        asked.append(settings)
        tokens.append(how["api_key"])
        return await real(url, pack, settings, **how, retry=QUICK, transport=StubServer(pack).transport)

    monkeypatch.setattr(envs.load.run, "drive", stubbed)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["simulate", "--url", "http://stub", "--seed", "4", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_a_session_is_played_for_every_fifty_rounds_unless_told_otherwise(simulate: Invoke) -> None:
    report = json.loads(simulate("--rounds", "120", "--batch", "40", "--json"))
    assert (report["rounds"], report["decided"], report["sessions_asked"]) == (120, 120, 2)
    assert report["sessions"]["service_conversation"]["sessions"] == 2
    assert json.loads(simulate("--rounds", "120", "--sessions", "0", "--json"))["sessions"] == {}


def test_every_option_reaches_the_drive(simulate: Invoke, asked: list[DriveSettings]) -> None:
    simulate("--rounds", "20", "--rate", "5000", "--hour", "0.001", "--events", "0.5", "--consent-changes", "0.25")
    (settings,) = asked
    assert (settings.run, settings.seed, settings.rounds) == ("sim-4", 4, 20)
    assert (settings.rate, settings.hour_s, settings.delayed) == (5_000.0, 0.001, False)
    assert (settings.events, settings.consent_changes) == (0.5, 0.25)


def test_a_token_comes_from_the_environment_or_the_command_line(
    simulate: Invoke, tokens: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("--rounds", "1", "--sessions", "0")
    monkeypatch.setenv("NBA_TOKEN", "nba_load_secret")
    simulate("--rounds", "1", "--sessions", "0")
    simulate("--rounds", "1", "--sessions", "0", "--token", "nba_load_other")
    assert tokens == [None, "nba_load_secret", "nba_load_other"]


def test_what_was_asked_for_is_reported_and_nothing_else(simulate: Invoke) -> None:
    plain = simulate("--rounds", "60", "--sessions", "2")
    assert "service_conversation (2)" in plain
    assert "60 of 60 rounds" in plain
    assert not any(word in plain for word in ("held back", "customers:", "asked for", "errors"))
    more = simulate(
        "--rounds", "60", "--hour", "0.001", "--events", "0.9", "--consent-changes", "0.9", "--rate", "9000"
    )
    assert all(word in more for word in ("held back", "never came", "purchase", "changes of it", "of 9,000 asked for"))


def test_sessions_alone_are_a_drive_too(simulate: Invoke) -> None:
    output = simulate("--rounds", "0", "--sessions", "3")
    assert "realised reward" not in output
    assert "0 of 0 rounds" in output


def test_outcomes_follow_a_calibration(simulate: Invoke, asked: list[DriveSettings], tmp_path: Path) -> None:
    """Nothing resolves a tone moment any more: an offset of -20 logits for each of its actions."""
    actions = PACK.moment("tone_tuner").action_ids
    never = ResponseParameters(offsets={"resolved": dict.fromkeys(actions, -20.0)})
    calibration = Calibration(
        pack="support",
        pack_digest=PACK.digest,
        as_of=START,
        rounds=1,
        digest="",
        moments={"tone_tuner": never},
        trait_means={},
    )
    path = tmp_path / "support.json"
    save_calibration(path, calibration)
    report = json.loads(simulate("--rounds", "50", "--sessions", "0", "--calibration", str(path), "--json"))
    assert asked[0].responses["tone_tuner"] == (never,)
    assert report["moments"]["tone_tuner"]["oracle"] < 0.05 < report["moments"]["instant_clarifier"]["oracle"]
