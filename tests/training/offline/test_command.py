"""`nba train --session --from log`."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from nba.cli import app
from nba.home import Home
from nba.log import LogWriter
from nba.pack import Pack
from tests.training.conftest import NOW
from tests.training.offline.logged import log_sessions


def test_logged_sessions_are_learned_by_one_command(
    home: Home, migrated: object, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBA_HOME", str(home.path))
    writer = LogWriter(home.log)
    writer.append(*log_sessions(pack, "service_conversation", 20).records).result(timeout=60)
    writer.close()
    small = [word for told in ("members=1", "hidden=8", "epochs=1") for word in ("--set", told)]
    command = ["train", "--session", "--from", "log", "--algo", "implicit_q", *small]
    done = CliRunner().invoke(app, [*command, "--as-of", f"{NOW:%Y-%m-%dT%H:%M:%S}"])
    assert done.exit_code == 0, done.output
    assert "support version 1 (" in done.output


@pytest.mark.parametrize(("algorithm", "source"), [("ppo", "log"), ("fitted_q", "simulator")])
def test_each_algorithm_has_its_source(algorithm: str, source: str) -> None:
    done = CliRunner().invoke(app, ["train", "--session", "--from", source, "--algo", algorithm])
    assert done.exit_code == 2
    assert f"not --from {source}" in " ".join(done.output.replace("│", "").split())
