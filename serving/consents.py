"""What customers agree to: told by the app, in the log before it is answered, honoured by the next decision.

First the log, then Redis, then the answer. What is answered is therefore in the log, from which Redis is refilled; what
is in the log and not answered is a fact all the same, which a retry repeats or a refill brings in. Statements may be
repeated and may come in any order (`features.consent`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from msgspec.structs import replace

from features.consent import Consent
from nba.errors import LogError, UnavailableError
from nba.pack import Pack
from nba.records import ConsentRecord
from serving.engine import Log
from serving.errors import InvalidError, UnavailableNowError
from serving.events import check_time
from serving.intake import PERSONALIZATION
from serving.uninterrupted import Uninterrupted
from serving.wire import ConsentAnswer, ConsentBody

PROACTIVE_CONTACT = "proactive_contact"  # the purpose of reaching out before the customer asks
_MOMENT_LATER = timedelta(microseconds=1)


class Store(Protocol):
    """Where consent is kept."""

    async def read(self, subject: str) -> Consent:
        """What is stored of a subject. Raises UnavailableError."""
        ...

    async def last_said(self, subject: str) -> datetime | None:
        """When a subject was observed last to speak; None where it never was. Raises UnavailableError."""
        ...

    async def state(self, statement: ConsentRecord) -> Consent:
        """Stores what is stated, and is in the log already; what is stored then. Raises UnavailableError."""
        ...


class Consents:
    """The consent of the customers of these packs."""

    def __init__(
        self,
        packs: Iterable[Pack],
        store: Store,
        log: Log,
        subject: Callable[[str], str],
        *,
        uninterrupted: Uninterrupted,
        clock: Callable[[], datetime],
    ) -> None:
        """In a store and a log that keep it by what `subject` makes of a subject's id."""
        self._store, self._log, self._subject = store, log, subject
        self._uninterrupted, self._clock = uninterrupted, clock
        used = {field.purpose for pack in packs for field in pack.fields.values() if field.purpose is not None}
        self.purposes = tuple(sorted(used | {PERSONALIZATION, PROACTIVE_CONTACT}))

    async def look(self, subject_id: str) -> ConsentAnswer:
        """What is stored of a customer. Raises UnavailableNowError."""
        try:
            return _answer(subject_id, await self._store.read(self._subject(subject_id)))
        except UnavailableError as error:
            raise UnavailableNowError(error.message, help=error.help) from None

    async def state(self, subject_id: str, body: ConsentBody) -> ConsentAnswer:
        """Logs and stores what a customer says; what is stored then. Raises InvalidError, UnavailableNowError.

        Without `observed_at` it is of now, and holds whatever was said before.
        """
        unknown = next((purpose for purpose in body.purposes if purpose not in self.purposes), None)
        if unknown is not None:
            raise InvalidError(
                f"no purpose {unknown!r}", help=f"known are {', '.join(self.purposes)}", field=f"purposes.{unknown}"
            )
        now = self._clock()
        if body.observed_at is not None:
            check_time(body.observed_at, now, "observed_at")
        statement = ConsentRecord(
            subject=self._subject(subject_id),
            purposes=body.purposes,
            source=body.source,
            observed_at=(body.observed_at or now).astimezone(UTC),
            recorded_at=now,
        )
        try:
            kept = self._keep(statement, of_now=body.observed_at is None)
            return _answer(subject_id, await self._uninterrupted.run(kept))
        except LogError as error:
            raise UnavailableNowError(f"it cannot be logged: {error.message}", help="send it again") from None
        except UnavailableError as error:
            raise UnavailableNowError(error.message, help=error.help) from None

    async def _keep(self, statement: ConsentRecord, *, of_now: bool) -> Consent:
        """What is stored once this is logged. Raises LogError, and UnavailableError where it is logged alone."""
        unknown: UnavailableError | None = None
        if of_now:  # clocks differ: what was said before may have been observed after our now
            try:
                before = await self._store.last_said(statement.subject)
                if before is not None and before >= statement.observed_at:
                    statement = replace(statement, observed_at=before + _MOMENT_LATER)
            except UnavailableError as error:
                unknown = error
        await asyncio.wrap_future(self._log.append(statement))
        consent = await self._store.state(statement)
        if unknown is not None:  # it may be overruled by what was said before
            raise unknown
        return consent


def _answer(subject_id: str, consent: Consent) -> ConsentAnswer:
    return ConsentAnswer(subject_id=subject_id, purposes=consent.purposes, history=consent.history)
