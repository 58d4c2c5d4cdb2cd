from __future__ import annotations

from pathlib import Path

import pytest

from features.connection import connection_string, feast_environment
from features.plan import FeatureStoreError
from nba.home import Home

PATIENCE = "socket_connect_timeout=5.0,socket_timeout=10.0"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://localhost", f"localhost:6379,{PATIENCE}"),
        (
            "redis://:123@10.0.0.1:7000/2",
            f'10.0.0.1:7000,{PATIENCE},password="123",db=2',
        ),  # text, though it looks like a number
        ("rediss://me:p%22w@cache:6380/0", f'cache:6380,{PATIENCE},username="me",password="p\\"w",db=0,ssl=true'),
        ("redis://cache?socket_timeout=2", "cache:6379,socket_connect_timeout=5.0,socket_timeout=2.0"),
    ],
)
def test_a_url_in_feasts_form(url: str, told: str) -> None:
    assert connection_string(url) == told


@pytest.mark.parametrize("url", ["redis://:a,b@localhost", "unix:///tmp/redis.sock"])
def test_what_feasts_form_cannot_hold_is_refused(url: str) -> None:
    with pytest.raises(FeatureStoreError):
        connection_string(url)


def test_the_variables_are_those_that_feature_store_yaml_expands() -> None:
    yaml = (Path(__file__).parents[2] / "features" / "repository" / "feature_store.yaml").read_text()
    settings = "\n".join(line for line in yaml.splitlines() if not line.startswith("#"))
    variables = feast_environment(Home(Path("/home")), "redis://localhost")
    assert {name for name in variables if f"${{{name}}}" in settings} == set(variables)
    assert settings.count("${") == len(variables)
