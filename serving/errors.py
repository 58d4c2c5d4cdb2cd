"""What the HTTP contract answers instead of a result: one class for each code, and the code of every other error."""

from __future__ import annotations

from typing import ClassVar

from nba.errors import ContextError, LogError, NbaError, UnknownActionError, UnknownMomentError
from nba.types import NO_ACTION


class SettingsError(NbaError):
    """A server cannot be started with these settings."""

    code = "bad_settings"


class HttpError(NbaError):
    """An answer that is not a result. `status` is its HTTP code."""

    status: ClassVar[int] = 422
    retry_after_s: int | None = None


class NotJsonError(HttpError):
    """The body is not JSON."""

    code, status = "not_json", 400


class UnauthorizedError(HttpError):
    """There is no key, or none that is known."""

    code, status = "unauthorized", 401


class ForbiddenError(HttpError):
    """The key lacks the role, or is not for the pack."""

    code, status = "forbidden", 403


class NotFoundError(HttpError):
    """No such path, pack or decision."""

    code, status = "not_found", 404


class UnknownPackError(NotFoundError):
    """No such pack is served."""

    code = "unknown_pack"


class UnknownDecisionError(NotFoundError):
    """No such decision is known."""

    code = "unknown_decision"


class MethodError(HttpError):
    """The path exists, but not with this method."""

    code, status = "method_not_allowed", 405


class NotHttpError(HttpError):
    """What came is no HTTP request."""

    code, status = "not_http", 400


class HeadTooLargeError(HttpError):
    """The request's line and headers are larger than is read."""

    code, status = "head_too_large", 431


class SlowBodyError(HttpError):
    """The body did not arrive in time."""

    code, status = "slow_body", 408


class ConflictError(HttpError):
    """The same key came before, with something else in it."""

    code, status = "conflict", 409


class TooLargeError(HttpError):
    """The body is larger than is read."""

    code, status = "too_large", 413


class InvalidError(HttpError):
    """A field is wrong: its type, range or value."""

    code, status = "invalid", 422


class OverloadError(HttpError):
    """More is in flight than the replica admits, or the request's own deadline has passed."""

    code, status, retry_after_s = "overloaded", 429, 1


class RateError(HttpError):
    """The key has made more requests than it may."""

    code, status, retry_after_s = "rate_limited", 429, 1

    def __init__(self, message: str, *, help: str, field: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(message, help=help, field=field)
        self.retry_after_s = retry_after_s


class UnavailableNowError(HttpError):
    """The decision cannot be made, or cannot be logged, so it was not made: the app takes `fallback_action`."""

    code, status, retry_after_s = "unavailable", 503, 1

    def __init__(
        self, message: str, *, help: str, field: str | None = None, fallback_action: str | None = None
    ) -> None:
        super().__init__(message, help=help, field=field)
        self.fallback_action = fallback_action or NO_ACTION


class NoPolicyError(UnavailableNowError):
    """No policy of the pack has been loaded yet."""

    code = "no_policy"


_STATUS: dict[type[NbaError], int] = {
    UnknownMomentError: 404,
    UnknownActionError: 422,
    ContextError: 422,
    LogError: 503,
}


def status_of(error: NbaError) -> int:
    """The HTTP code of an error that was raised on purpose."""
    return error.status if isinstance(error, HttpError) else _STATUS.get(type(error), 422)
