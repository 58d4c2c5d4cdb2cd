"""Tends the segments of the log that are done, beside serving: indexes them, and ships them to the archive.

Replicas of a machine share its log folder: whichever comes first does a pass, the others find nothing left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from pathlib import Path

from nba.errors import NbaError
from nba.log.index import index_of
from nba.log.segment import segments
from serving.metrics import Metrics

LAST_PASS_S = 5.0  # seconds that a stop waits for what it has just written to be shipped

_log = logging.getLogger(__name__)


class Shipper:
    """One replica's passes over the log folder, every `poll_s` seconds, in a thread."""

    def __init__(self, folder: Path, archive: str | None, *, poll_s: float, metrics: Metrics) -> None:
        self._folder, self._archive, self._poll_s = folder, archive, poll_s
        self._metrics = metrics
        self._stopping = threading.Event()
        self._ending = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self.trouble = ""  # why the last pass failed

    @property
    def state(self) -> str:
        """`off`, `shipping`, or why not; for /readyz."""
        return self.trouble or ("off" if self._archive is None else "shipping")

    def start(self) -> None:
        """Begins the passes."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends them after a last one, which ships what was written until now; waits 5 seconds for it at most."""
        if self._running is None:
            return
        self._ending.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_PASS_S):
                await self._running
                if self._archive is not None:
                    await self._pass()
        self._stopping.set()  # a pass that is still going on in its thread ends with its segment

    async def _run(self) -> None:
        while not self._ending.is_set():
            await self._pass()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._ending.wait()

    async def _pass(self) -> None:
        trouble = ""
        try:
            await asyncio.to_thread(self._tend)
        except Exception as error:  # noqa: BLE001  # whatever it is, serving goes on and the next pass tries again
            trouble = error.message if isinstance(error, NbaError) else str(error) or repr(error)
        if trouble and trouble != self.trouble:
            _log.error("the log cannot be shipped, and is kept here until it can: %s", trouble)
        self.trouble = trouble

    def _tend(self) -> None:
        if not self._folder.is_dir():
            return
        for path in segments(self._folder):
            if self._stopping.is_set():
                return
            with contextlib.suppress(FileNotFoundError):  # given up empty since the listing
                index_of(path)
        if self._archive is not None:
            self._ship(self._archive)

    def _ship(self, archive: str) -> None:
        from nba.log.ship import backlog, ship  # Arrow, which a server without an archive does not need

        try:
            ship(self._folder, archive, stop=self._stopping.is_set)
        finally:
            segments_waiting, age_s = backlog(self._folder, archive)
            self._metrics.log_unshipped.set(segments_waiting)
            self._metrics.log_unshipped_age.set(age_s)
