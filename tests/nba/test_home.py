from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from nba.errors import SettingError
from nba.home import Home


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NBA_HOME", "NBA_SECRET", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_home_is_the_folder_that_nba_home_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path / "a" / "b"))
    home = Home.from_environment()
    assert home.path == tmp_path / "a" / "b"
    assert mode(home.path) == 0o700


def test_home_is_dot_nba_here_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.from_environment().path == (tmp_path / ".nba").resolve()
    monkeypatch.setenv("NBA_HOME", "")
    assert Home.from_environment().path == (tmp_path / ".nba").resolve()


@pytest.mark.parametrize("name", ["file/below", "~nobody-of-this-name/nba"])
def test_a_home_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    monkeypatch.setenv("NBA_HOME", name)
    with pytest.raises(SettingError, match=f"cannot use '{name}' as home"):
        Home.from_environment()


def test_everything_lies_below_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    places = [home.log, home.policies, home.features, home.redis, home.ledger, home.calibration, home.mlflow]
    assert len(set(places)) == 7
    assert all(place.parent == tmp_path for place in places)


def test_mlflow_keeps_its_records_in_sqlite_by_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home(Path("here")).tracking_uri == f"sqlite:///{tmp_path}/here/mlflow/mlflow.db"
    assert (tmp_path / "here" / "mlflow").is_dir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://models:5000")
    assert Home(tmp_path).tracking_uri == "http://models:5000"


def test_a_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path)
    secret = home.secret("draw")
    assert len(secret) == 32
    assert home.secret() == secret == Home(tmp_path).secret("draw")
    assert home.secret("redis") != secret
    assert mode(tmp_path / "draw.secret") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draw.secret", "redis.secret"]


def test_another_home_has_another_secret(tmp_path: Path) -> None:
    assert Home(tmp_path / "a").secret() != Home(tmp_path / "b").secret()


def test_those_who_start_together_agree_on_the_secret(tmp_path: Path) -> None:
    """None of them may read it half-written: an empty secret would draw without one."""
    with ThreadPoolExecutor(8) as pool:
        for attempt in range(30):
            home, start = Home(tmp_path / str(attempt)), Barrier(8)

            def ask(home: Home = home, start: Barrier = start) -> bytes:
                start.wait()
                return home.secret()

            secrets = {asked.result() for asked in [pool.submit(ask) for _ in range(8)]}
            assert secrets == {home.secret()}


@pytest.mark.parametrize("content", ["", "abcd", "no hex at all", "ab" * 33, "\x00\xff"])
def test_a_damaged_secret_is_refused_and_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "draw.secret").write_text(content, encoding="latin-1")
    with pytest.raises(SettingError, match=r"draw\.secret does not hold 32 bytes in hex"):
        Home(tmp_path).secret()
    assert (tmp_path / "draw.secret").read_text(encoding="latin-1") == content


def test_machines_with_one_nba_secret_draw_and_name_customers_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBA_SECRET", "ab" * 32)
    here, there = Home(tmp_path / "here"), Home(tmp_path / "there")
    assert here.secret("draw") == there.secret("draw") != here.secret("subject") == there.secret("subject")
    assert here.secret("redis") != there.secret("redis")
    monkeypatch.setenv("NBA_SECRET", "cd" * 32)
    assert here.secret("draw") != Home(tmp_path / "new").secret("redis")


def test_an_nba_secret_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_SECRET", "hunter2")
    with pytest.raises(SettingError, match="NBA_SECRET does not hold 32 bytes") as caught:
        Home(tmp_path).secret()
    assert "hunter2" not in str(caught.value)
