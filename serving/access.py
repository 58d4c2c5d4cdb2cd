"""Who is let in: the key of a request, its roles, its packs and its rate.

Without a keys file everybody is, and the server listens on loopback only. Once there has been one, it stays closed:
a file that is gone or broken leaves the last good keys in force, or nobody where there were none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from nba.errors import NbaError
from serving.errors import ForbiddenError, RateError, UnauthorizedError, UnavailableNowError
from serving.keys import PREFIX, ROLES, Key, read_keys
from serving.metrics import Metrics

LOOK_S = 1.0  # least time between two looks at the keys file
MAX_TOKEN = 256  # bytes
MAX_NAMED = 20  # keys that are counted by name; the rest count as `other`
_SHOW_ROLE = "ask whoever runs the server: nba keys add NAME --role ROLE --pack PACK"
_log = logging.getLogger(__name__)
Headers = Iterable[tuple[bytes, bytes]]


class Caller:
    """Whom a request came from: what the key opens, and how much of its rate is left."""

    __slots__ = ("_burst", "_full_at", "_rate", "_ticks", "expires", "name", "packs", "roles", "sha256")

    def __init__(
        self,
        name: str,
        sha256: bytes,
        roles: Sequence[str],
        *,
        packs: Sequence[str] | None = None,
        expires: datetime | None = None,
        rate: float | None = None,
        burst: int | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.sha256, self.roles = name, sha256, frozenset(roles)
        self.packs = None if packs is None else frozenset(packs)  # None: all
        self.expires = None if expires is None else expires.timestamp()
        self._rate, self._burst = rate, burst or max(1, math.ceil(rate or 1.0))
        self._full_at, self._ticks = 0.0, ticks  # when the bucket is full again

    def may(self, pack: str) -> bool:
        """Whether the key is for this pack."""
        return self.packs is None or pack in self.packs

    def refuse_pack(self, pack: str) -> None:
        """Raises ForbiddenError where the key is not for this pack, whether there is such a pack or not."""
        if not self.may(pack):
            raise ForbiddenError(f"key {self.name!r} is not for pack {pack!r}", help=_SHOW_ROLE, field="pack")

    def refuse_part(self, packs: Iterable[str]) -> None:
        """Raises ForbiddenError where the key is for some of the packs only, and all of them are concerned."""
        if self.packs is not None and not self.packs.issuperset(packs):
            raise ForbiddenError(
                f"key {self.name!r} is not for all packs, and this concerns all of them", help=_SHOW_ROLE
            )

    def refuse_roles(self, roles: Sequence[str]) -> None:
        """Raises ForbiddenError where the key has none of the roles."""
        if self.roles.isdisjoint(roles):
            raise ForbiddenError(f"key {self.name!r} lacks the role: {' or '.join(roles)}", help=_SHOW_ROLE)

    def spend(self) -> None:
        """Takes a request out of the bucket. Raises RateError where none is left."""
        if self._rate is None:
            return
        now = self._ticks()
        full_at = max(self._full_at, now)
        wait_s = full_at - now - (self._burst - 1) / self._rate
        if wait_s > 1e-9:
            raise RateError(
                f"key {self.name!r} may make {self._rate:g} requests a second",
                help="come back after Retry-After, more slowly",
                retry_after_s=max(1, math.ceil(wait_s)),
            )
        self._full_at = full_at + 1.0 / self._rate

    def spend_more(self, n: int) -> None:
        """Takes the rest of a call of many out of the bucket, into debt where it has to be: later calls wait."""
        if self._rate is not None and n > 0:
            self._full_at = max(self._full_at, self._ticks()) + n / self._rate

    def keep_pace(self, before: Caller) -> None:
        """Goes on with what the same key has used up."""
        self._full_at = before._full_at


NOBODY = Caller("", secrets.token_bytes(32), ())  # what an unknown id is compared with; no token hashes to it
ANYBODY = Caller("", NOBODY.sha256, ROLES)  # where there are no keys


class Access:
    """The door of one replica. `status` says in one line what it goes by, `trouble` what is wrong with its file."""

    def __init__(
        self,
        path: Path,
        *,
        required: bool,
        own_token: str | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the file. `required`: nobody is let in without one. `own_token` is let in with no role at all."""
        self._path, self._clock, self._ticks = path, clock, ticks
        self._own = None if own_token is None else _of_own(own_token.encode())
        self._metrics = metrics
        self._callers: dict[bytes, Caller] | None = None  # by id; None: no good file so far
        self._named: frozenset[str] = frozenset()  # names with a label of their own
        self.in_force, self.trouble = required, ""
        self._seen: tuple[int, ...] | None = None
        self._looked = ticks()
        self._look(first=True)
        _log.info("%s", self.status)

    @property
    def status(self) -> str:
        """For /readyz and the log."""
        if self.trouble:
            return self.trouble
        return (
            f"{len(self._callers or ())} keys in force" if self.in_force else "none: everybody on this machine may ask"
        )

    def caller(self, headers: Headers) -> Caller:
        """Whom the request came from. Raises UnauthorizedError, and UnavailableNowError while no keys can be read."""
        ticks = self._ticks()
        if ticks - self._looked >= LOOK_S:
            self._looked = ticks
            self._look()
        if not self.in_force:
            return ANYBODY
        token = _token(headers)
        found = self._known(token)
        if not hmac.compare_digest(hashlib.sha256(token).digest(), found.sha256) or found is NOBODY:
            raise _unauthorized("the key is not known" if token else "there is no key")
        if found.expires is not None and self._clock() >= found.expires:
            raise _unauthorized("the key has expired")
        return found

    def admit(self, headers: Headers, roles: Sequence[str]) -> Caller:
        """The caller, where it has one of the roles and its rate is not used up. Raises as `caller`, ForbiddenError,
        RateError."""
        try:
            caller = self.caller(headers)
        except UnauthorizedError:
            self._count("", "unauthorized")
            raise
        try:
            caller.refuse_roles(roles)
            caller.spend()
        except NbaError as error:
            self._count(caller.name, error.code)
            raise
        if self.in_force:
            self._count(caller.name, "admitted")
        return caller

    def knows(self, headers: Headers) -> bool:
        """Whether the request came with a key that is known, whatever its roles; always where there are no keys."""
        try:
            self.caller(headers)
        except (UnauthorizedError, UnavailableNowError):
            return False
        return True

    def _count(self, name: str, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.key_asked(name if name in self._named else "other" if name else "none", outcome)

    def _known(self, token: bytes) -> Caller:
        start = len(PREFIX)
        key_id = token[start : token.find(b"_", start)]
        if self._own is not None and key_id == b"own":
            return self._own
        if self._callers is None:
            raise UnavailableNowError("the server's keys cannot be read", help="its /readyz and its log say why")
        return self._callers.get(key_id, NOBODY)

    def _look(self, *, first: bool = False) -> None:
        """Reads the file again where it changed; keeps the last good one where it is none."""
        try:
            status = self._path.stat()
            seen: tuple[int, ...] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        except OSError:
            seen = ()
        if seen == self._seen:
            return
        self._seen = seen
        if not seen and not self.in_force:
            return
        self.in_force = True
        try:
            self._callers = self._read()
        except NbaError as error:
            kept = "the last good keys stay in force" if self._callers is not None else "nobody is let in"
            self.trouble = f"{error.message}; {kept}"
            _log.error("%s", self.trouble)
            return
        if len(self._named) < MAX_NAMED:
            fresh = [name for name in dict.fromkeys(c.name for c in self._callers.values()) if name not in self._named]
            self._named |= frozenset(fresh[: MAX_NAMED - len(self._named)])
        self.trouble = ""
        if not first:
            _log.warning("%s", self.status)

    def _read(self) -> dict[bytes, Caller]:
        before = self._callers or {}
        callers: dict[bytes, Caller] = {}
        for key in read_keys(self._path).keys:
            if not key.disabled:
                caller = callers[key.id.encode()] = self._caller(key)
                if key.id.encode() in before:
                    caller.keep_pace(before[key.id.encode()])
        return callers

    def _caller(self, key: Key) -> Caller:
        return Caller(
            key.name,
            bytes.fromhex(key.sha256),
            key.roles,
            packs=key.packs,
            expires=key.expires,
            rate=key.rate,
            burst=key.burst,
            ticks=self._ticks,
        )


def own_token(secret: bytes) -> str:
    """The token by which the command that starts a server asks it whether it is ready; it has no role."""
    return f"{PREFIX.decode()}own_{secret.hex()}"


def _of_own(token: bytes) -> Caller:
    return Caller("own", hashlib.sha256(token).digest(), ())


def _token(headers: Headers) -> bytes:
    """The bearer token of a request; empty where there is none, more than one, or no such thing."""
    said = [value for name, value in headers if name == b"authorization"]
    if len(said) != 1 or len(said[0]) > MAX_TOKEN:
        return b""
    scheme, _, token = said[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _unauthorized(why: str) -> UnauthorizedError:
    return UnauthorizedError(why, help="send Authorization: Bearer TOKEN; nba keys add NAME --role decide makes one")
