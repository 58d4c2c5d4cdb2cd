"""Appends records to the log; a record is acknowledged once it is synced, never before (law 3).

One thread writes. Whatever was queued during the last sync goes with the next: no timer, and one record alone waits
for nobody. After an error the segment is sealed and never tried again; the next group opens a new one, so a disk that
was full and has room again needs no help.

An append that failed is not known to be lost: its bytes may have reached the disk before the error. Readers therefore
take the records of one id, or one reward key, together, and a caller repeats a failed append under the same id.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from nba.durable import make_folder
from nba.errors import LogError
from nba.log.segment import KINDS, MAX_PAYLOAD, OpenSegment, frame
from nba.records import Record, encode_record

PROBE_S = 1.0  # seconds between looks at a disk that failed, while nothing is appended
PROBE_BYTES = 64 << 10

_log = logging.getLogger(__name__)


class LogWriter:
    """One writer of the log, with a thread and segment files of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        roll_bytes: int = 32 << 20,  # bytes: a segment this long is followed by a new one
        roll_s: float = 600.0,  # seconds: so is one this old
        max_waiting_bytes: int = 64 << 20,  # bytes: an append that would make more wait fails
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._roll_bytes, self._roll_s = roll_bytes, roll_s
        self._max_waiting_bytes = max_waiting_bytes
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._waiting_bytes = 0
        self._waiting_since = 0.0  # when the first of those came, on the clock
        self._syncing_since: float | None = None  # and of those that are being written; None: none are
        self._synced_at: float | None = None
        self._closing = False
        self._healthy = True
        self._segment: OpenSegment | None = None  # the writer thread's own, like the two below
        self._next_number = 0
        self._opened_at = 0.0
        self._thread = threading.Thread(target=self._run, name="nba-log-writer", daemon=True)
        self._thread.start()

    def append(self, *records: Record) -> Future[None]:
        """Done when every one of these records is synced, in one group; fails with LogError otherwise.

        Thread-safe, never blocks, cannot be cancelled.
        """
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        try:
            data = b"".join(map(_framed, records))
            with self._changed:
                self._refuse(len(data))
                if not self._waiting:
                    self._waiting_since = self._clock()
                self._waiting.append((data, future))
                self._waiting_bytes += len(data)
                self._changed.notify()
        except LogError as error:
            future.set_exception(error)
        return future

    @property
    def healthy(self) -> bool:
        """Whether the last thing done with the disk worked; looked at again every second after an error."""
        return self._healthy and self._thread.is_alive()

    @property
    def lag_s(self) -> float:
        """Seconds that the oldest append which is not synced has waited; 0 where all are."""
        with self._changed:
            since = self._syncing_since
            if since is None and self._waiting:
                since = self._waiting_since
        return 0.0 if since is None else max(self._clock() - since, 0.0)

    @property
    def since_sync_s(self) -> float:
        """Seconds since the last sync; NaN before the first."""
        return math.nan if self._synced_at is None else self._clock() - self._synced_at

    def close(self) -> None:
        """Writes and syncs what waits, then ends; later appends fail with LogError."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _refuse(self, size: int) -> None:
        if self._closing:
            raise LogError("the log is closed", help="this process is stopping: send the request to another")
        if self._waiting_bytes + size > self._max_waiting_bytes:
            raise LogError(
                f"{self._waiting_bytes} bytes wait for the disk already",
                help="the disk is slower than the load: try again in a moment",
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closing:
                    self._changed.wait(self._patience())
                group, self._waiting, self._waiting_bytes = self._waiting, [], 0
                self._syncing_since = self._waiting_since if group else None
                closing = self._closing
            if group:
                self._commit(group)
                self._syncing_since = None
            elif not self._healthy:
                self._probe()
            self._roll(closing)
            if closing:
                return

    def _patience(self) -> float | None:
        """Seconds until there is something to do without an append; None where nothing is."""
        if not self._healthy:
            return PROBE_S
        return None if self._segment is None else max(self._opened_at + self._roll_s - self._clock(), 0.0)

    def _commit(self, group: list[tuple[bytes, Future[None]]]) -> None:
        try:
            self._open().commit(b"".join(data for data, _ in group))
        except Exception as error:  # noqa: BLE001 - whoever waits must be told, and this thread must go on
            self._fail(error)
            for _, future in group:
                future.set_exception(
                    LogError(f"the log cannot be written: {error}", help=f"see to the disk under {self._folder}")
                )
            return
        self._healthy, self._synced_at = True, self._clock()
        for _, future in group:
            future.set_result(None)

    def _open(self) -> OpenSegment:
        if self._segment is None:
            make_folder(self._folder)
            self._segment = OpenSegment.create(self._folder, self._next_number)
            self._next_number = self._segment.number + 1
            self._opened_at = self._clock()
        return self._segment

    def _fail(self, error: Exception) -> None:
        _log.error("the log cannot be written: %s", error, exc_info=not isinstance(error, OSError))
        self._healthy = False
        if self._segment is not None:
            self._segment.seal()
            self._segment = None

    def _probe(self) -> None:
        """Whether the disk takes bytes again: without it a server that refuses work would never see it recover."""
        try:
            self._open().reserve(PROBE_BYTES)
        except OSError as error:
            self._fail(error)
        else:
            self._healthy = True

    def _roll(self, closing: bool) -> None:
        segment = self._segment
        if segment is None:
            return
        old = self._clock() - self._opened_at >= self._roll_s
        if closing or old or segment.length >= self._roll_bytes:
            (segment.close if segment.length else segment.seal)()
            self._segment = None


def _framed(record: Record) -> bytes:
    payload = encode_record(record)
    if len(payload) > MAX_PAYLOAD:
        raise LogError(f"a record of {len(payload)} bytes is too long to log", help=f"at most {MAX_PAYLOAD} bytes")
    kind = record.__struct_config__.tag
    return frame(KINDS[str(kind)], payload)
