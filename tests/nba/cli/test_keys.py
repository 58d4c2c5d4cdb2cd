"""`nba keys`: making, listing, taking away and renewing keys."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from nba.cli.keys import app
from serving.keys import KeysError, read_keys


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keys file, which is not there yet."""
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    monkeypatch.delenv("NBA_KEYS", raising=False)
    return tmp_path / "keys.json"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_a_token_is_printed_once_and_alone_and_kept_nowhere(path: Path) -> None:
    done = run("add", "app", "--role", "decide", "--pack", "support", "--expires", "30", "--rate", "5")
    token = done.stdout.strip()
    (key,) = read_keys(path).keys
    assert key.sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert (key.roles, key.packs, key.rate) == (("decide",), ("support",), 5.0)
    assert key.expires == key.created + timedelta(days=30)
    assert not any(token in file.read_text() for file in path.parent.iterdir())
    shown = run("list").stdout + run("list", "--json").stdout
    assert "app" in shown
    assert token not in shown
    assert key.sha256 not in shown


@pytest.mark.parametrize(
    "words",
    [
        ("app", "--role", "decide"),
        ("b", "--role", "root"),
        ("a b", "--role", "decide"),
        ("c", "--role", "decide", "--rate", "0"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(path: Path, words: tuple[str, ...]) -> None:
    run("add", "app", "--role", "decide")
    before = path.read_bytes()
    assert isinstance(run("add", *words).exception, KeysError)
    assert path.read_bytes() == before


def test_a_key_is_taken_away_with_all_its_tokens(path: Path) -> None:
    run("add", "app", "--role", "decide")
    run("rotate", "app")
    run("add", "other", "--role", "reward")
    assert "2 tokens" in run("revoke", "app").stdout
    assert [key.name for key in read_keys(path).keys] == ["other"]
    assert isinstance(run("revoke", "app").exception, KeysError)


def test_a_new_token_stands_beside_the_old_one_for_a_while(path: Path) -> None:
    first = run("add", "app", "--role", "decide", "--pack", "support").stdout.strip()
    second = run("rotate", "app", "--grace", "2").stdout.strip()
    old, new = read_keys(path).keys
    assert [hashlib.sha256(token.encode()).hexdigest() for token in (first, second)] == [old.sha256, new.sha256]
    assert old.expires is not None
    assert timedelta(hours=1.9) < old.expires - datetime.now(UTC) <= timedelta(hours=2)
    assert (new.expires, new.roles, new.packs) == (None, old.roles, old.packs)
    run("rotate", "app", "--grace", "0")
    run("rotate", "app", "--grace", "0")
    works = [entry["name"] for entry in json.loads(run("list", "--json").stdout) if entry["expires"] is None]
    assert works == ["app"]
    assert len(read_keys(path).keys) == 2  # what has ended goes when the next one is made
