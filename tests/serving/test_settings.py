from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import SettingsError
from serving.keys import KeysError, KeysFile
from serving.settings import Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_without_keys_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(home=Path(), host=host)
    assert refused.value.field == "host"


def test_with_keys_any_address_may_be_listened_on(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}")
    settings = Settings(home=tmp_path, host="0.0.0.0")
    assert settings.needs_keys
    with pytest.raises(KeysError):  # and a start looks into them
        settings.load_keys()
    (tmp_path / "keys.json").chmod(0o600)
    assert settings.load_keys() == KeysFile()


def test_a_keys_file_that_is_there_is_needed_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    assert Settings.from_environment(None, {}).keys is None
    (tmp_path / "keys.json").touch(0o600)
    settings = Settings.from_environment(None, {})
    assert settings.keys == tmp_path / "keys.json"
    (tmp_path / "keys.json").unlink()
    assert settings.needs_keys
    named = Settings.from_environment(None, {"NBA_KEYS": str(tmp_path / "other.json")})
    with pytest.raises(KeysError, match=r"other\.json"):
        named.load_keys()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_is_any_address_of_it(host: str) -> None:
    assert Settings(home=Path(), host=host).host == host


def test_an_archive_is_named_by_one_spelling_whichever_folder_a_replica_works_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment(None, {"NBA_LOG_ARCHIVE": "kept"}).log_archive == (tmp_path / "kept").as_uri()
    assert Settings.from_environment(None, {"NBA_LOG_ARCHIVE": "s3://b/p/"}).log_archive == "s3://b/p"
    assert Settings.from_environment(None, {"NBA_LOG_ARCHIVE": ""}).log_archive is None


def test_arguments_come_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    environment = {"NBA_PACKS": "support, other.yaml", "NBA_PORT": "8001", "NBA_REPLICAS": "2"}
    settings = Settings.from_environment({"replicas": 3, "home": "/elsewhere"}, environment)
    assert settings == Settings(home=Path("/elsewhere"), packs=("support", "other.yaml"), port=8001, replicas=3)


@pytest.mark.parametrize(
    ("said", "port"), [({}, 8001), ({"NBA_FAST_PORT": "9000"}, 9000), ({"NBA_FAST_PORT": "0"}, None)]
)
def test_the_fast_lane_is_beside_the_port_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], port: int | None
) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    assert Settings.from_environment(None, said).lane_port == port


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [({"prot": 8000}, {}), ({"port": "8000"}, {}), ({}, {"NBA_PORT": "many"}), ({"packs": []}, {})],
)
def test_a_setting_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], environment: dict[str, str]
) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    with pytest.raises(SettingsError):
        Settings.from_environment(arguments, environment)


def test_two_packs_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsError):
        Settings(home=Path(), packs=("support", "support")).load_packs()
