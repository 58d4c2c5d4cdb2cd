"""Drives of a stub server, quick to give up."""

from __future__ import annotations

import asyncio
from typing import Any

from envs.load.calls import Retry
from envs.load.report import DriveReport
from envs.load.run import drive
from envs.load.settings import DriveSettings
from envs.load.traffic import Traffic
from tests.envs.load.stub_server import StubServer

QUICK = Retry(attempts=4, first_s=0.0, most_s=0.0)
HOW = ("api_key", "on_progress", "retry")


def settings(**given: Any) -> DriveSettings:
    """Sixty rounds and no session, if nothing else is said."""
    return DriveSettings(**({"run": "r", "rounds": 60, "seed": 3, "sessions": 0, "concurrency": 4} | given))


def play(server: StubServer, rounds: int = 60, **given: Any) -> DriveReport:
    """The report of a drive of the server."""
    how = {"retry": QUICK} | {name: given.pop(name) for name in HOW if name in given}
    asked = settings(rounds=rounds, **given)
    return asyncio.run(drive("http://stub", server.pack, asked, transport=server.transport, **how))


def traffic_of(server: StubServer, rounds: int = 60, **given: Any) -> Traffic:
    """The traffic that a drive of these settings meets the server with."""
    return settings(rounds=rounds, **given).traffic(server.pack)
