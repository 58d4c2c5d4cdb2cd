"""`nba log`, over a log that holds more than decisions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from nba.artefact import load_artefact, save_artefact
from nba.cli.log import app
from nba.decide import decide
from nba.home import Home
from nba.log import LogWriter
from nba.moment_plan import plan_pack
from nba.pack_file import load_pack
from nba.policies import KINDS
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


@pytest.mark.usefixtures("_log")
def test_a_log_is_shipped_lost_and_restored(tmp_path: Path) -> None:
    archive, run = str(tmp_path / "archive"), CliRunner().invoke
    before = run(app, ["show"]).stdout
    shipped = json.loads(run(app, ["ship", archive, "--json"]).stdout)
    assert (len(shipped["shipped"]), shipped["deleted"]) == (1, [])
    assert len(json.loads(run(app, ["ship", archive, "--delete-after-days", "0", "--json"]).stdout)["deleted"]) == 1
    assert run(app, ["show"]).stdout == before
    (tmp_path / "log").rename(tmp_path / "lost")
    assert "1 segments restored, 0 were here" in run(app, ["restore", archive]).stdout
    assert run(app, ["show"]).stdout == before


@pytest.mark.usefixtures("_log")
def test_the_archive_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_LOG_ARCHIVE", str(tmp_path / "archive"))
    assert "1 segments shipped, 0 were there, 0 deleted here" in CliRunner().invoke(app, ["ship"]).stdout


@pytest.mark.usefixtures("_log")
def test_a_compaction_says_what_it_made(tmp_path: Path) -> None:
    first, second = (json.loads(CliRunner().invoke(app, ["compact", "--json"]).stdout) for _ in range(2))
    assert (first["segments"], first["rows"], second["segments"], second["days"]) == (1, 2, 0, [])
    assert (tmp_path / "columns" / "manifest.json").exists()


@pytest.mark.usefixtures("_log")
def test_a_decision_whose_policy_is_not_here_cannot_be_made_again() -> None:
    found = json.loads(CliRunner().invoke(app, ["verify", "--replay", "1", "--json"]).stdout)
    assert (found["ok"], found["replayed"], found["unreplayable"]) == (True, 0, 1)


def test_decisions_are_made_again_by_the_policy_they_name(
    tmp_path: Path, decision_record: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two decisions of one policy the second names another bundle."""
    home = Home(tmp_path)
    pack = load_pack("support")
    plans = plan_pack(pack)
    save_artefact(tmp_path / "made", pack, "uniform", {m: KINDS["uniform"].fit(plans[m], None) for m in plans})  # type: ignore[arg-type]
    snapshot = load_artefact(tmp_path / "made", version="7")
    home.policies.mkdir()
    (tmp_path / "made").rename(home.policies / snapshot.policy.digest)
    records = []
    for i in range(2):
        like = decision_record(f"d-{i}")
        made = decide(snapshot, like.decision.request, now=decision_record.now, secret=home.secret())
        records.append(replace(like, decision=made))
    wrong = replace(records[1], decision=replace(records[1].decision, bundle_id="another"))
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    for record, sound in ((records[0], True), (wrong, False)):
        writer = LogWriter(home.log)
        writer.append(record).result(10)
        writer.close()
        result = CliRunner().invoke(app, ["verify", "--replay", "1", "--json"])
        assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0 if sound else 1, sound)
    assert json.loads(result.stdout)["problems"] == ["decision d-1: made again, bundle_id came out otherwise"]
