"""Several replicas' metrics on the page of whichever is asked."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics
from serving.pages import Pages, labelled, merged
from serving.server import Server

PAGE = b"# HELP n_total How many\n# TYPE n_total counter\nn_total 2.0\n"


def page_of(metrics: Metrics) -> Callable[[], bytes]:
    return lambda: metrics.render(claims="ready", champions={})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[Metrics], Pages]]:
    """Makes replicas that live until the test ends."""
    with ExitStack() as stack:

        def make(metrics: Metrics) -> Pages:
            pages = Pages(tmp_path, page_of(metrics))
            pages.open()
            stack.callback(pages.close)
            return pages

        yield make


def rewards(page: bytes) -> dict[str, float]:
    """Outcomes counted, by slot."""
    return {
        sample.labels["replica"].rpartition("-")[2]: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "nba_rewards_total"
    }


def test_every_sample_says_its_replica() -> None:
    page = b'# HELP a A {b}\n# TYPE a gauge\na 1.0\na{b="{c d}"} 2.0\n'
    assert labelled(page, "h-0") == (
        b'# HELP a A {b}\n# TYPE a gauge\na{replica="h-0"} 1.0\na{replica="h-0",b="{c d}"} 2.0\n'
    )


def test_what_is_said_of_a_metric_stands_once_above_all_its_samples() -> None:
    other = PAGE.replace(b"2.0", b"3.0") + b"# HELP m M\n# TYPE m gauge\nm 1.0\n"
    assert merged((PAGE, other)) == PAGE + b"n_total 3.0\n" + b"# HELP m M\n# TYPE m gauge\nm 1.0\n"


def test_whoever_is_asked_tells_what_both_have_counted(opened: Callable[[Metrics], Pages]) -> None:
    counted = Metrics(), Metrics()
    one, other = map(opened, counted)
    for metrics, n in zip(counted, (1, 2), strict=True):
        for _ in range(n):
            metrics.rewarded("joined")
    one.write()
    assert rewards(other.all()) == rewards(one.all()) == {"0": 1.0, "1": 2.0}


def test_a_counter_never_goes_back_whoever_is_asked_in_turn(opened: Callable[[Metrics], Pages]) -> None:
    """The one that is asked shows the others what it told."""
    metrics = Metrics()
    one, other = opened(metrics), opened(Metrics())
    metrics.rewarded("joined")
    one.write()
    metrics.rewarded("joined")
    assert rewards(one.all()) == {"0": 2.0}
    assert rewards(other.all()) == {"0": 2.0}


def test_a_replica_that_has_ended_is_told_of_no_more_and_its_place_is_taken(tmp_path: Path) -> None:
    pages = [Pages(tmp_path, page_of(Metrics())) for _ in range(3)]
    for each in pages[:2]:
        each.open()
    pages[0].close()
    assert b'-0"' not in pages[1].all()
    pages[2].open()
    assert pages[2].replica.endswith("-0")
    for each in pages:
        each.close()


def test_a_replica_that_was_killed_is_told_of_no_more(tmp_path: Path, opened: Callable[[Metrics], Pages]) -> None:
    """The kernel unlocks what a dead process had locked, whatever it left behind."""
    script = (
        "import os, sys; from pathlib import Path; from serving.pages import Pages;"
        "pages = Pages(Path(sys.argv[1]), lambda: b'left 1.0\\n'); pages.open(); pages.write(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path], check=False).returncode == 9
    assert b"left" in (tmp_path / "0.prom").read_bytes()
    watching = Pages(tmp_path, page_of(Metrics()))
    assert b"left" not in watching.all()
    assert opened(Metrics()).replica.endswith("-0")


def test_where_nothing_can_be_written_a_replica_tells_of_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    pages = Pages(tmp_path / "file", lambda: PAGE)
    pages.open()
    assert re.fullmatch(rb'.*\nn_total\{replica="[\w.-]+-none"\} 2.0\n', pages.all(), re.DOTALL)
    pages.close()


def test_the_server_shows_its_page_from_the_start_and_takes_it_away_at_the_end(scene: Any) -> None:
    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        page = (await client.get("/metrics")).text
        assert f'nba_requests_in_flight{{replica="{server.pages.replica}"}} 0.0' in page
        assert (scene.home / "metrics" / "0.prom").read_text() == page

    scene.play(scenario)
    assert not list((scene.home / "metrics").glob("*.prom"))
