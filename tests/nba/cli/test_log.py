"""`nba log`, over a log that holds more than decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from nba.cli.log import app
from nba.log import LogWriter
from nba.records import ConsentRecord

if TYPE_CHECKING:
    from tests.conftest import RecordFactory


@pytest.fixture
def _log(tmp_path: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision between two statements of consent."""
    now = decision_record.now
    stated = ConsentRecord(subject="0a", purposes={"emotion": False}, source=None, observed_at=now, recorded_at=now)
    writer = LogWriter(tmp_path / "log")
    writer.append(stated, decision_record("d-0"), stated).result(10)
    writer.close()
    monkeypatch.setenv("NBA_HOME", str(tmp_path))


@pytest.mark.usefixtures("_log")
def test_statements_of_consent_are_shown_and_belong_to_no_decision() -> None:
    everything = CliRunner().invoke(app, ["show"])
    of_one = CliRunner().invoke(app, ["show", "--decision", "d-0"])
    assert (everything.exit_code, of_one.exit_code) == (0, 0)
    assert [line.startswith('{"kind":"consent","subject":"0a"') for line in everything.stdout.splitlines()] == [
        True,
        False,
        True,
    ]
    assert of_one.stdout.splitlines() == everything.stdout.splitlines()[1:2]


@pytest.mark.usefixtures("_log")
def test_a_log_with_statements_of_consent_is_sound() -> None:
    verified = CliRunner().invoke(app, ["verify", "--json"])
    assert verified.exit_code == 0
    assert '"consents": 2' in verified.stdout
