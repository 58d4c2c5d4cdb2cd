from __future__ import annotations

from pathlib import Path

import pytest

from serving.errors import SettingsError
from serving.settings import Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_without_keys_only_loopback_is_listened_on(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(home=Path(), host=host)
    assert refused.value.field == "host"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_is_any_address_of_it(host: str) -> None:
    assert Settings(home=Path(), host=host).host == host


def test_arguments_come_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBA_HOME", str(tmp_path))
    environment = {"NBA_PACKS": "support, other.yaml", "NBA_PORT": "8001", "NBA_REPLICAS": "2"}
    settings = Settings.from_environment({"replicas": 3, "home": "/elsewhere"}, environment)
    assert settings == Settings(home=Path("/elsewhere"), packs=("support", "other.yaml"), port=8001, replicas=3)


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
