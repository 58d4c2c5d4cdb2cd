"""The dashboard asks only for what is on a server's page, and is laid out so that Grafana can show it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server import Server

DASHBOARD = json.loads((Path(__file__).parents[2] / "serving" / "grafana.json").read_bytes())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
METRIC = re.compile(r"\b(nba_\w+)(?:\{([^}]*)\})?")
GROUPED = re.compile(r"by \(([^)]*)\)")


def asked_labels(expression: str) -> dict[str, set[str]]:
    """The metrics of an expression, each with the labels that it is asked for by."""
    grouped = {label.strip() for group in GROUPED.findall(expression) for label in group.split(",")}
    found: dict[str, set[str]] = {}
    for metric, matchers in METRIC.findall(expression):
        found.setdefault(metric, set()).update(re.findall(r"(\w+)=~?", matchers), grouped)
    return found


@pytest.fixture
def labels(scene: Any, body: Callable[..., dict[str, Any]]) -> dict[str, set[str]]:
    """The samples of a real page, each with its labels, after everything that is counted has come once."""
    found: dict[str, set[str]] = {}

    async def scenario(client: httpx.AsyncClient, server: Server) -> None:
        asked = body(decision_id="d", context={"sentiment": -0.5, "colour": "red"})
        for _ in range(2):
            await client.post("/v1/decide", json=asked)
        await client.post("/v1/decisions/d/rewards", json={"outcome": "resolved", "value": 1})
        server.metrics.key_asked("app", "admitted")
        server.metrics._ages.add("customer_history", 1.0)
        for family in text_string_to_metric_families((await client.get("/metrics")).text):
            found.update({sample.name: set(sample.labels) for sample in family.samples})

    scene.play(scenario)
    return found


def test_every_expression_asks_for_what_is_on_the_page(labels: dict[str, set[str]]) -> None:
    for expression in EXPRESSIONS:
        metrics = asked_labels(expression)
        assert metrics, expression
        for metric, wanted in metrics.items():
            assert metric in labels, expression
            assert wanted <= labels[metric], expression


def test_every_metric_of_ours_is_on_the_dashboard(labels: dict[str, set[str]]) -> None:
    shown = {base(metric) for expression in EXPRESSIONS for metric in asked_labels(expression)}
    assert {base(metric) for metric in labels} == shown


def base(metric: str) -> str:
    """The name without what counters and histograms add to it."""
    return re.sub(r"(_(total|bucket|sum|count|created))+$", "", metric)


def test_ids_are_unique_and_no_panel_covers_another() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y
    assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in DASHBOARD["panels"]))


def test_every_query_goes_to_the_data_source_that_is_chosen() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(panel["datasource"] == chosen for panel in PANELS)
    assert all(target["datasource"] == chosen and target["refId"] for panel in PANELS for target in panel["targets"])
    assert {"datasource", "pack"} == VARIABLES
    assert DASHBOARD["schemaVersion"] >= 36


def test_no_expression_names_a_variable_that_is_not_there() -> None:
    used = {name for expression in EXPRESSIONS for name in re.findall(r"\$(\w+)", expression)}
    assert used <= VARIABLES | {"__rate_interval"}


def test_parentheses_and_braces_of_every_expression_close() -> None:
    for expression in EXPRESSIONS:
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
