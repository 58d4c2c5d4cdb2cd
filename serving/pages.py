"""The metrics of every replica of this machine on one page, whichever of them is asked for it.

A scrape reaches one replica: the ingress chooses, or the kernel on the fast lane. So each replica writes its own page
to a file every `PAGE_S` seconds, and whenever it is asked; who is asked puts the pages of all that live together. Every
sample says its replica, so that one that ends takes no part of a sum along that Prometheus would take for a reset.

A replica is a slot: `N.lock` is locked by its process while it lives, `N.prom` is its page. The lowest free slot is
taken, so that the label has few values, however often replicas are replaced.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from nba.log.segment import alone

PAGE_S = 5.0  # seconds after which a replica writes its page again
_SLOTS = 1_000
_log = logging.getLogger(__name__)


class Pages:
    """One replica's page among those of its machine. Its calls may come from any thread, and wait for the disk."""

    def __init__(self, folder: Path, render: Callable[[], bytes]) -> None:
        """`render` gives this replica's page."""
        self._folder, self._render = folder, render
        self._writing = threading.Lock()
        self._held = ExitStack()
        self._slot: int | None = None

    def open(self) -> None:
        """Takes a slot. Where the folder does not allow it, this replica is seen only when it is asked itself."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for slot in range(_SLOTS):
                with ExitStack() as held:
                    if held.enter_context(alone(self._lock(slot))):
                        self._page(slot).unlink(missing_ok=True)  # of one that has ended
                        self._slot, self._held = slot, held.pop_all()
                        return
        except OSError as error:
            _log.warning("other replicas cannot show the metrics of this one: %s", error)

    def close(self) -> None:
        """Gives the slot back."""
        if self._slot is not None:
            with contextlib.suppress(OSError):
                self._page(self._slot).unlink(missing_ok=True)
        self._held.close()
        self._slot = None

    @property
    def replica(self) -> str:
        """What samples are labelled with: host and slot, so that replicas of several machines stay apart."""
        return f"{_host()}-{'none' if self._slot is None else self._slot}"

    def write(self) -> bytes:
        """Shows this replica's page to the others; the page. No sync: it is of use only while this replica lives."""
        with self._writing:
            page = labelled(self._render(), self.replica)
            if self._slot is not None:
                path = self._page(self._slot)
                aside = path.with_suffix(".new")
                try:
                    aside.write_bytes(page)
                    aside.replace(path)
                except OSError as error:
                    _log.warning("other replicas cannot show the metrics of this one: %s", error)
        return page

    def all(self) -> bytes:
        """This replica's page as it is now, with those of all others that live.

        Its own is written first, so that no replica that is asked later tells less of this one.
        """
        return merged((self.write(), *self._others()))

    def _others(self) -> Iterable[bytes]:
        for path in sorted(self._folder.glob("*.prom")):
            slot = path.stem
            if slot.isdecimal() and int(slot) != self._slot:
                with contextlib.suppress(OSError), alone(self._lock(int(slot))) as dead:
                    if not dead:
                        yield path.read_bytes()

    def _lock(self, slot: int) -> Path:
        return self._folder / f"{slot}.lock"

    def _page(self, slot: int) -> Path:
        return self._folder / f"{slot}.prom"


def labelled(page: bytes, replica: str) -> bytes:
    """The page with its replica on every sample."""
    return b"".join(_labelled(line, b'replica="%s"' % replica.encode()) for line in page.splitlines(keepends=True))


def _labelled(line: bytes, label: bytes) -> bytes:
    if line.startswith(b"#"):
        return line
    name, brace, rest = line.partition(b"{")  # a name has none, a value neither
    if brace:
        return b"%s{%s,%s" % (name, label, rest)
    name, _, value = line.partition(b" ")
    return b"%s{%s} %s" % (name, label, value)


def merged(pages: Iterable[bytes]) -> bytes:
    """Several pages as one: each metric's samples stand together, below what is said of it once."""
    families: dict[bytes, list[bytes]] = {}  # all that is said of a metric -> its samples
    for page in pages:
        said, samples = b"", list[bytes]()
        for line in page.splitlines(keepends=True):
            if line.startswith(b"# HELP "):
                said, samples = line, []
            elif line.startswith(b"#"):
                said += line
                samples = families.setdefault(said, [])
            else:
                samples.append(line)
    return b"".join(said + b"".join(samples) for said, samples in families.items())


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64] or "host"
