"""What customers have agreed to, purpose by purpose, and how that came to be.

Redis keeps it by the subject's keyed hash, never by its id: `nba:c:SUBJECT` is a hash of purpose -> "STATE:SINCE:SAID",
1 (granted) or 0 (withheld), since when, and when it was last said, in microseconds since 1970; `nba:ch:SUBJECT` is a
list of what changed, newest first, as JSON. A purpose that is not there was never spoken of. The decision path reads
the first of them together with the features (`features.online`).

It is a view of the log's consent records. What holds of a purpose is what was observed last, and of two statements of
one moment the one that withholds: the same statements, in any order and with any repetition, leave the same state. So
what a refill has read in the log and what is stated meanwhile may meet in Redis in any order. History, and since when
something holds, follow the order in which the statements came.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from features.epoch import EPOCH_KEY, PREFIX, WHOLE
from features.redis_link import RedisLink
from features.redis_pipe import Script, command
from nba.errors import UnavailableError
from nba.records import ConsentRecord

HISTORY = 200  # changes of a subject that are kept
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# `said` is a time in microseconds; the arguments from `first` to `last` are for each purpose its name, 0 or 1, and the
# entry for the history.
_RULE = """
local function state(consent, history, kept, said, first, last)
  for i = first, last, 3 do
    local purpose, state = ARGV[i], ARGV[i + 1]
    local was, since, before = string.match(redis.call('HGET', consent, purpose) or '', '^(.):(-?%d+):(-?%d+)$')
    local later = was and tonumber(said) - tonumber(before)
    if not was or later > 0 or (later == 0 and state == '0') then
      if was ~= state then
        since = said
        redis.call('LPUSH', history, ARGV[i + 2])
      end
      redis.call('HSET', consent, purpose, state .. ':' .. since .. ':' .. said)
    end
  end
  redis.call('LTRIM', history, 0, kept - 1)
end
"""

# keys: epoch, a subject's consent, its history; arguments: run_id, the history's length, said, then as in the rule.
# -> {1 where Redis is whole, else 0, the consent as a flat list, the history}. What is stated is taken either way: a
# refill that is past it in the log would miss it.
STATE = Script.of(
    WHOLE
    + _RULE
    + """
state(KEYS[2], KEYS[3], ARGV[2], ARGV[3], 4, #ARGV)
local known = whole(KEYS[1], ARGV[1]) and 1 or 0
return {known, redis.call('HGETALL', KEYS[2]), redis.call('LRANGE', KEYS[3], 0, -1)}
"""
)

# keys: consent and history of a statement's subject, for each statement; arguments: the history's length, then for each
# statement how many arguments it has beside this one: said, then as in the rule. -> 1
RESTORE = Script.of(
    _RULE
    + """
local at = 2
for k = 1, #KEYS, 2 do
  local last = at + tonumber(ARGV[at])
  state(KEYS[k], KEYS[k + 1], ARGV[1], ARGV[at + 1], at + 2, last)
  at = last + 1
end
return 1
"""
)


class PurposeState(Struct, frozen=True, kw_only=True):
    """Where a customer stands on one purpose."""

    granted: bool
    since: datetime


class ConsentChange(Struct, frozen=True, kw_only=True):
    """A purpose that was granted or withheld."""

    purpose: str
    granted: bool
    since: datetime
    source: str | None  # who says so, such as a form


class Consent(Struct, frozen=True, kw_only=True):
    """Everything that is known of a customer's consent."""

    purposes: dict[str, PurposeState]
    history: list[ConsentChange]  # newest change first, at most HISTORY


def consent_key(subject: str) -> bytes:
    """Redis key of a subject's purposes; `subject` is its keyed hash."""
    return f"{PREFIX}c:{subject}".encode()


def restore_words(statements: Iterable[ConsentRecord]) -> tuple[list[bytes], list[bytes]]:
    """Keys and arguments with which RESTORE takes these statements, in the order they came."""
    keys: list[bytes] = []
    arguments = [b"%d" % HISTORY]
    for statement in statements:
        words = _words(statement)
        keys += _keys(statement.subject)
        arguments += [b"%d" % len(words), *words]
    return keys, arguments


class ConsentStore:
    """The consent of all subjects. One store an event loop."""

    def __init__(self, redis_url: str | None, *, timeout_s: float) -> None:
        """A store in the Redis of this URL; one call takes at most `timeout_s`. Raises FeatureStoreError."""
        self._link, self._timeout_s = RedisLink(redis_url, (STATE,)), timeout_s

    async def read(self, subject: str) -> Consent:
        """What is stored of a subject; nothing where it was never spoken of. Raises UnavailableError."""
        return _consent(*await self._run(subject, b"0"))

    async def last_said(self, subject: str) -> datetime | None:
        """When a subject was observed last to speak; None where it never was. Raises UnavailableError."""
        purposes, _ = await self._run(subject, b"0")
        return max((_time(held.split(b":")[2]) for held in purposes[1::2]), default=None)

    async def state(self, statement: ConsentRecord) -> Consent:
        """Stores what is stated, and is in the log already; what is stored then.

        Of what was observed before what is stored, and only arrives now, nothing is taken. What is stored already
        leaves no trace in the history: a call may be repeated. Raises UnavailableError where Redis fails, and then it
        is not known whether it was stored, or has not been refilled from the log yet, and then it was.
        """
        return _consent(*await self._run(statement.subject, *_words(statement)))

    async def _run(self, subject: str, *words: bytes) -> tuple[list[bytes], list[bytes]]:
        """Purposes, each before what is held of it, and history, once these words are taken."""
        keys, kept = (EPOCH_KEY, *_keys(subject)), b"%d" % HISTORY
        replies = await self._link.ask(
            lambda run_id: command(b"EVALSHA", STATE.sha, b"%d" % len(keys), *keys, run_id, kept, *words),
            1,
            self._timeout_s,
        )
        reply = replies[0] if replies else "no answer"
        if not isinstance(reply, list):
            raise UnavailableError(f"consent cannot be read or stored: {reply}", help="send it again in a moment")
        whole, purposes, history = reply
        if not whole:
            raise UnavailableError("consent is being restored from the log", help="send it again in a moment")
        return purposes, history

    async def close(self) -> None:
        """Ends the connection."""
        await self._link.close()


def _keys(subject: str) -> tuple[bytes, bytes]:
    return consent_key(subject), f"{PREFIX}ch:{subject}".encode()


def _words(statement: ConsentRecord) -> list[bytes]:
    """When it was said, then for each purpose its name, 1 or 0, and the entry for the history."""
    since = statement.observed_at.astimezone(UTC)
    words = [b"%d" % ((since - _EPOCH) // _MICROSECOND)]
    for purpose, granted in statement.purposes.items():
        change = ConsentChange(purpose=purpose, granted=granted, since=since, source=statement.source)
        words += [purpose.encode(), b"1" if granted else b"0", msgspec.json.encode(change)]
    return words


def _time(microseconds: bytes) -> datetime:
    return _EPOCH + int(microseconds) * _MICROSECOND


def _consent(flat: list[bytes], history: list[bytes]) -> Consent:
    purposes = {
        name.decode(): PurposeState(granted=held[:1] == b"1", since=_time(held.split(b":")[1]))
        for name, held in zip(flat[::2], flat[1::2], strict=True)
    }
    changes = [msgspec.json.decode(entry, type=ConsentChange) for entry in history]
    return Consent(purposes=dict(sorted(purposes.items())), history=changes)
