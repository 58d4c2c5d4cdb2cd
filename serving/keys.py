"""The keys file: who may ask, by the hash of a token that only the caller has.

A token is `nba_ID_SECRET`: the id finds its entry, and the secret is 256 random bits. Nobody can guess those or list
them in a dictionary, so that one SHA-256 keeps them as well as a slow hash would, and a request costs a microsecond.

A name may have two entries for a while: that is how a token is rotated.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from nba.durable import write_aside
from nba.errors import NbaError

Role = Literal["decide", "reward", "admin"]
ROLES: tuple[Role, ...] = ("decide", "reward", "admin")
PREFIX = b"nba_"
SECRET_BYTES = 32
MAX_FILE = 1024 * 1024  # bytes
MAX_KEYS = 1_000
_ID_BYTES = 6
_Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)")]


class KeysError(NbaError):
    """The keys file cannot be used, or has no such key."""

    code = "bad_keys"


class Key(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry: whom a token stands for, and what it opens."""

    name: _Word
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}$(?!\n)")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]  # of the whole token
    roles: Annotated[tuple[Role, ...], Meta(min_length=1)]
    packs: Annotated[tuple[str, ...], Meta(min_length=1)] | None = None  # None: all
    rate: Annotated[float, Meta(gt=0, le=1e6)] | None = None  # requests a second in each replica; None: no limit
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None  # requests at once; None: those of a second
    created: Annotated[datetime, Meta(tz=True)]
    expires: Annotated[datetime, Meta(tz=True)] | None = None
    disabled: bool = False

    def works(self, now: datetime) -> bool:
        """Whether its token is let in at that time."""
        return not self.disabled and (self.expires is None or now < self.expires)


class KeysFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file holds."""

    schema: Literal["nba-keys/1"] = "nba-keys/1"
    keys: Annotated[tuple[Key, ...], Meta(max_length=MAX_KEYS)] = ()


_keys_file = msgspec.json.Decoder(KeysFile)


@dataclass(frozen=True, slots=True)
class Minted:
    """A new entry and its token, which is shown once and kept nowhere."""

    key: Key
    token: str = field(repr=False)


def mint(
    name: str,
    roles: tuple[Role, ...],
    *,
    now: datetime,
    packs: tuple[str, ...] | None = None,
    expires: datetime | None = None,
    rate: float | None = None,
    burst: int | None = None,
) -> Minted:
    """A new key. Raises KeysError where a value does not fit."""
    key_id = secrets.token_hex(_ID_BYTES)
    token = f"{PREFIX.decode()}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    key = Key(
        name=name,
        id=key_id,
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        roles=roles,
        packs=packs,
        rate=rate,
        burst=burst,
        created=now,
        expires=expires,
    )
    return Minted(_checked(KeysFile(keys=(key,))).keys[0], token)


def read_keys(path: Path) -> KeysFile:
    """The keys of a file. Raises KeysError: not there, not its owner's alone, too large, or not a keys file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeysError(
            f"cannot read keys file {path}: {error.strerror}", help="nba keys add NAME --role decide makes one"
        ) from None
    with os.fdopen(handle, "rb") as file:
        _refuse_shared(path, os.fstat(handle))
        text = file.read(MAX_FILE + 1)
    if len(text) > MAX_FILE:
        raise KeysError(f"keys file {path} has more than {MAX_FILE} bytes", help="revoke what is not used")
    try:
        found = _keys_file.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KeysError(f"{path} is no keys file: {error}", help="restore it, or make it anew: nba keys add") from None
    return _unique(found)


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeysError(f"keys file {path} is no regular file", help="name a file")
    if status.st_mode & 0o077:
        raise KeysError(
            f"keys file {path} has mode {stat.S_IMODE(status.st_mode):04o}: others may use it",
            help=f"chmod 600 {path}",
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise KeysError(
            f"keys file {path} belongs to user {status.st_uid}", help="it has to be the server's user's own, or root's"
        )


@contextmanager
def changing(path: Path) -> Iterator[list[Key]]:
    """The keys of a file, empty where there is none yet; what they are at the end of the block is written.

    One at a time, whole or not at all: temporary file, sync, rename, sync of the folder. Raises KeysError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(read_keys(path).keys) if path.exists() else []
        yield keys
        write_aside(
            path, msgspec.json.format(msgspec.json.encode(_checked(KeysFile(keys=tuple(keys)))), indent=2) + b"\n"
        )
    finally:
        os.close(lock)


def _unique(keys: KeysFile) -> KeysFile:
    if len({key.id for key in keys.keys}) < len(keys.keys):
        raise KeysError("two keys have one id", help="remove one of them from the keys file")
    return keys


def _checked(keys: KeysFile) -> KeysFile:
    """The same, as it will be read. Raises KeysError."""
    try:
        return _unique(_keys_file.decode(msgspec.json.encode(keys)))
    except msgspec.ValidationError as error:
        raise KeysError(f"this key does not fit: {error}", help="see nba keys add --help") from None
