"""What the pages in docs/ refer to exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
NAMED = [(page.name, node) for page in PAGES for node in re.findall(r"`(tests/[\w/]+\.py::\w+)`", page.read_text())]


def test_the_threat_model_names_tests() -> None:
    rows = [line for line in (ROOT / "docs" / "threat-model.md").read_text().splitlines() if line.count("|") == 5]
    threats = rows[2:]
    assert len(threats) >= 20
    assert [row for row in threats if "::test_" not in row] == []


@pytest.mark.parametrize(("page", "node"), NAMED)
def test_every_test_that_is_named_exists(page: str, node: str) -> None:
    file, _, name = node.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {f.name for f in tree.body if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_package_that_is_installed_has_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.match(r"^[A-Za-z0-9._-]+==[\w.+!]+$", pin)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
