"""What travels over HTTP: requests and answers, and how a body becomes one of them, strictly.

A body is read twice: msgspec decodes it into its type (numbers stay numbers, unknown keys are refused), and a
second pass refuses what JSON leaves open and readers disagree on: a key that stands twice, an integer beyond 64 bits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from features.consent import ConsentChange, PurposeState
from features.events import KINDS
from nba.errors import NbaError
from nba.pack import Pack
from nba.records import DecisionRecord, check_year
from serving.errors import InvalidError, NotJsonError

# `$` alone would let a trailing newline through.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}$(?!\n)", max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
EventName = Annotated[str, Meta(min_length=1, max_length=128, extra_json_schema={"enum": list(KINDS)})]
MAX_SAID = 200  # characters of what a client sent wrong
MAX_ITEMS = 1_000  # decisions of one batch, events of one call


class DecideBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer is in a moment: what to do?"""

    subject_id: Id
    moment: Name
    decision_id: Id | None = None  # idempotency key and seed of the draw; made up where left out
    pack: Name | None = None  # may be left out where the server has one pack
    session_id: Id | None = None  # links the steps of one session
    context: Annotated[dict[Name, Any], Meta(max_length=256)] = {}  # facts by name
    consent: Annotated[dict[Name, bool], Meta(max_length=64)] = {}  # purpose -> False: withheld for this decision
    actions: Annotated[tuple[Name, ...], Meta(max_length=1_000)] | None = None  # candidates; None: all
    exclude: Annotated[tuple[Name, ...], Meta(max_length=1_000)] = ()
    baseline_action: Name | None = None  # what the app would do by itself
    explore: bool = True  # False: the most probable action, logged as deterministic
    defer_activation: bool = False  # True: counts for learning only once activated
    explain: bool = False  # accepted; every answer carries distribution, funnel and reasons as it is
    dry_run: bool = False  # True: nothing is logged or counted
    timeout_ms: Annotated[float, Meta(gt=0, le=60_000)] | None = None  # the feature read's deadline comes out of it


class BatchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Many decisions at once, each as in DecideBody."""

    decisions: Annotated[list[Raw], Meta(max_length=MAX_ITEMS)]


class RewardBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome of a decision."""

    outcome: Name
    value: float
    observed_at: Annotated[datetime, Meta(tz=True)] | None = None  # None: now
    idempotency_key: Id | None = None  # None: one report of this outcome

    def __post_init__(self) -> None:
        if self.observed_at is not None:
            check_year(self.observed_at, "observed_at")


class ActivateBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The action was shown."""

    activated_at: Annotated[datetime, Meta(tz=True)] | None = None  # None: now

    def __post_init__(self) -> None:
        if self.activated_at is not None:
            check_year(self.activated_at, "activated_at")


class OverrideBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person chose otherwise."""

    action_id: Name
    actor: Name


class EventBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something happened to a customer."""

    subject_id: Id
    event: EventName
    value: float | None = None  # of nps: the answer, 0 to 10; the others count as one whatever it is
    occurred_at: Annotated[datetime, Meta(tz=True)] | None = None  # None: now
    event_id: Id | None = None  # the same one of the same customer again is a duplicate; None: an event of its own

    def __post_init__(self) -> None:
        if self.occurred_at is not None:
            check_year(self.occurred_at, "occurred_at")


class ConsentBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer agrees to and what not. Purposes that are not named stay as they are."""

    purposes: Annotated[dict[Name, bool], Meta(min_length=1, max_length=64)]  # False: withheld
    source: Annotated[str, Meta(min_length=1, max_length=64)] | None = None  # who says so, such as a form
    observed_at: Annotated[datetime, Meta(tz=True)] | None = None  # None: now; an older word does not undo a newer

    def __post_init__(self) -> None:
        if self.observed_at is not None:
            check_year(self.observed_at, "observed_at")


class ActionAnswer(Struct, frozen=True, kw_only=True):
    """What to do."""

    action_id: str
    layer: str
    channel: str
    treatment_id: str | None
    message: str | None
    delay_ms: int


class PolicyAnswer(Struct, frozen=True, kw_only=True):
    """Which policy decided."""

    name: str
    version: str
    kind: str
    arm: str


class FeaturesAnswer(Struct, frozen=True, kw_only=True):
    """What was known, and what was not."""

    missing: tuple[str, ...]  # fields without a value
    defaulted: tuple[str, ...]  # fields whose value could not be used
    ignored: tuple[str, ...]  # keys the moment does not know
    age_s: dict[str, float]  # feature view -> age of what was read


class WindowAnswer(Struct, frozen=True, kw_only=True):
    """Until when outcomes count, and what counts where none comes."""

    closes_at: datetime
    default: float


class DecideAnswer(Struct, frozen=True, kw_only=True):
    """One decision."""

    decision_id: str
    action: ActionAnswer
    propensity: float
    distribution: dict[str, float]  # action -> probability, those above zero
    policy: PolicyAnswer
    features: FeaturesAnswer
    funnel: dict[str, int | dict[str, str]]  # how many actions each stage left; `removed`: action -> reason
    degraded: tuple[str, ...]
    reward: WindowAnswer
    replayed: bool
    dry_run: bool | UnsetType = UNSET  # only there where True


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What is wrong, and the way out."""

    code: str
    message: str
    help: str
    field: str | UnsetType = UNSET


class ErrorAnswer(Struct, frozen=True, kw_only=True):
    """Every answer that is not a result."""

    error: ErrorDetail
    fallback_action: str | UnsetType = UNSET  # with 503: what the app should do by itself


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The results of a batch, in its order."""

    results: list[Any]  # each a DecideAnswer or an ErrorAnswer


class RewardAnswer(Struct, frozen=True, kw_only=True):
    """Where an outcome went."""

    status: Literal["joined", "late", "awaiting_activation", "duplicate"]


class AcceptedAnswer(Struct, frozen=True, kw_only=True):
    """An activation or override is in the log."""

    status: Literal["activated", "overridden"]


class EventsAnswer(Struct, frozen=True, kw_only=True):
    """The events of a call count from now on."""

    accepted: int
    duplicates: int  # their event_id had come before


class ConsentAnswer(Struct, frozen=True, kw_only=True):
    """Everything stored of a customer's consent. A purpose that is not there was never spoken of."""

    subject_id: str
    purposes: dict[str, PurposeState]
    history: list[ConsentChange]  # what changed, newest first


class DecisionAnswer(Struct, frozen=True, kw_only=True):
    """A decision's whole record, and where it stands."""

    record: DecisionRecord
    state: str
    reward: float | None  # reward units, the action's cost taken off; None while it is not settled
    outcomes: dict[str, float]  # as aggregated so far
    closes_at: datetime | None


class ReplayAnswer(Struct, frozen=True, kw_only=True):
    """Whether the log and the policy version give the same decision again."""

    identical: bool
    difference: dict[str, tuple[Any, Any]] | UnsetType = UNSET  # field -> logged, recomputed


class ServingAnswer(Struct, frozen=True, kw_only=True):
    """What serves one pack."""

    pack: str
    policy: PolicyAnswer | None
    digest: str | None
    since: datetime | None  # when this replica swapped to it
    rejected: dict[str, str]  # version -> why it was not loaded
    registry: str  # "ok", or why the registry cannot be asked


class PoliciesAnswer(Struct, frozen=True, kw_only=True):
    """What serves."""

    policies: list[ServingAnswer]


class PackAnswer(Struct, frozen=True, kw_only=True):
    """The catalogue in force."""

    digest: str  # of everything in it that decides or teaches
    pack: Pack


class HealthAnswer(Struct, frozen=True, kw_only=True):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(Struct, frozen=True, kw_only=True):
    """Whether decisions can be made, and what is not as it should be."""

    status: Literal["ready", "degraded", "not_ready"]  # degraded: it decides, but see the rest
    log: Literal["writable", "failing"]
    claims: str  # "ready", or the state and why
    features: dict[str, str]  # pack -> "ready", or why nothing stored is read
    lane: str = "off"  # where the fast lane listens, or why it does not
    archive: str = "off"  # "shipping", or why segments of the log are not shipped
    keys: str = "none"  # how many are in force, or what is wrong with their file
    policies: list[ServingAnswer]


class ReadyStatusAnswer(Struct, frozen=True, kw_only=True):
    """Whether decisions can be made: what is told without a key, where there are keys."""

    status: Literal["ready", "degraded", "not_ready"]


T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_bodies = (DecideBody, BatchBody, RewardBody, ActivateBody, OverrideBody, ConsentBody)
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in _bodies}
_anything = msgspec.json.Decoder()
_events = msgspec.json.Decoder(EventBody | Annotated[list[EventBody], Meta(max_length=MAX_ITEMS)])


def encode(answer: Struct) -> bytes:
    """An answer as JSON."""
    return _encode(answer)


def read_body(body: bytes | Raw, kind: type[T]) -> T:
    """The body as a `kind`. Raises NotJsonError, or InvalidError with the field that is wrong."""
    value = _decode(body, kind)
    refuse_ambiguous(bytes(body))
    return value


def read_events(body: bytes) -> EventBody | list[EventBody]:
    """One event, or many. Raises NotJsonError, InvalidError."""
    events: EventBody | list[EventBody] = _decoded(body, _events)
    refuse_ambiguous(body)
    return events


def read_id(text: str, field: str) -> str:
    """An id that came in a path. Raises InvalidError where it is none."""
    try:
        read: str = msgspec.convert(text, Id)
        return read
    except msgspec.ValidationError as error:
        raise InvalidError(f"{field}: {error}", help="an id is 1 to 128 of A-Z a-z 0-9 . _ : -", field=field) from None


def _decode(body: bytes | Raw, kind: type[T]) -> T:
    value: T = _decoded(body, _decoders[kind])
    return value


def _decoded(body: bytes | Raw, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        value: T = decoder.decode(body)
        return value
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJsonError(f"the body is not JSON: {error}", help="send one JSON object in UTF-8") from None
    except RecursionError:
        raise NotJsonError("the body is nested too deeply", help="send one flat JSON object") from None


def read_batch(body: bytes) -> list[DecideBody | NbaError]:
    """The requests of a batch, in order, an error in the place of one that is wrong; one bad item spoils none.

    Raises NotJsonError, InvalidError where the batch itself is wrong.
    """
    items = _decode(body, BatchBody).decisions
    try:
        refuse_ambiguous(body)
    except InvalidError as error:
        read = [_or_error(item, read_body) for item in items]
        if not any(isinstance(item, NbaError) for item in read):
            raise error from None  # it is the batch's own keys
        return read
    return [_or_error(item, _decode) for item in items]


def _or_error(item: Raw, read: Callable[[Raw, type[DecideBody]], DecideBody]) -> DecideBody | NbaError:
    try:
        return read(item, DecideBody)
    except NbaError as error:
        return error


def refuse_ambiguous(body: bytes) -> None:
    """Raises InvalidError where a key stands twice in one object, or an integer does not fit in 64 bits."""
    if _plain(body):
        return
    try:
        json.loads(body, object_pairs_hook=_unique, parse_int=_integer)
    except UnicodeDecodeError as error:  # in a batch's item, which was not looked into yet
        raise InvalidError(f"the body is not UTF-8: {error}", help="send JSON in UTF-8") from None


def _plain(body: bytes) -> bool:
    """True only where nothing is ambiguous, at a fraction of the time of finding out what is.

    Without escapes each `:` stands between a key and its value or in a text: where what was decoded has as many of
    them as the body, no key was dropped for another of its name.
    """
    if b"\\" in body:
        return False
    try:
        return body.count(b":") == _colons(_anything.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return False


def _colons(value: Any) -> int:
    """Keys, and colons in keys and texts. Raises OverflowError for an integer beyond 64 bits."""
    kind = type(value)
    if kind is str:
        n: int = value.count(":")
        return n
    if kind is dict:
        return sum([1 + key.count(":") + _colons(inner) for key, inner in value.items()])
    if kind is list:
        return sum([_colons(inner) for inner in value])
    if kind is int and not -(2**63) <= value < 2**63:
        raise OverflowError
    return 0


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidError(f"key {twice[:80]!r} stands twice in one object", help="send it once", field=twice[:80])


def _integer(digits: str) -> None:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise InvalidError("an integer does not fit in 64 bits", help="send a number that a float64 can hold")


def _invalid(message: str) -> InvalidError:
    """msgspec's message as ours: `Expected ... - at $.context.x` becomes a message and a field."""
    what, _, path = message.partition(" - at `$")
    named = re.search(r"(?:unknown|required|wrong) field `([^`]*)`", what)
    if path.startswith("["):
        path = f"events{path}"  # no other body is a list
    field = _short(".".join(part for part in (path.rstrip("`").lstrip("."), named and named[1]) if part)) or None
    return InvalidError(
        f"{field or 'the body'}: {_short(what)}", help="GET /openapi.json describes every field", field=field
    )


def _short(text: str) -> str:
    """As much of a text as an answer repeats: a key may have the length of a body."""
    return text if len(text) <= MAX_SAID else f"{text[: MAX_SAID - 1]}…"
