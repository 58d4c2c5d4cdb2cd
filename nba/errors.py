"""What can go wrong, one class for each thing a caller can handle.

Every error says what is wrong and the value, then `help:` with the next step. `code` is the stable word
that the HTTP contract uses for it; `field` is the path of the offending field, where there is one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

MAX_SHOWN = 80  # characters of a value that a message repeats


def shown(value: object) -> str:
    """The value as a message shows it: its repr, cut short. Never fails, whatever a stranger sent."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list nested without end
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


class NbaError(Exception):
    """Base of every error this project raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, help: str, field: str | None = None) -> None:
        super().__init__(f"{message}\nhelp: {help}")
        self.message = message
        self.help = help
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries; without this a copy would be rebuilt from the text alone, and fail.
        return partial(type(self), self.message, help=self.help, field=self.field), ()


class PackError(NbaError):
    """A pack file says something it may not; the message names file, line, field and value."""

    code = "bad_pack"


class ConditionError(NbaError):
    """A condition of a pack does not parse, or speaks of a field or value that does not exist."""

    code = "bad_condition"


class ContextError(NbaError):
    """A fact of a request has the wrong type, range or vocabulary, and the pack is strict."""

    code = "bad_context"


class UnknownMomentError(NbaError):
    """The pack has no such moment."""

    code = "unknown_moment"


class UnknownActionError(NbaError):
    """The moment has no such action."""

    code = "unknown_action"


class ShapeError(NbaError):
    """An array does not have the shape its name promises."""

    code = "bad_shape"


class RewardError(NbaError):
    """A round that was to be learned from has a number that is not finite."""

    code = "bad_reward"


class ArtefactError(NbaError):
    """A policy folder is missing, truncated, of another schema, or made for another pack."""

    code = "bad_artefact"


class LogError(NbaError):
    """The decision log cannot be written or read."""

    code = "log_unavailable"


class EmptyLogError(NbaError):
    """There are no closed, learnable rounds to learn from or to judge by."""

    code = "no_rounds"


class UnavailableError(NbaError):
    """Something this process needs (a server, a store, a port) does not answer."""

    code = "unavailable"


class SettingError(NbaError):
    """A setting (an environment variable, a file of this installation) cannot be used as it is."""

    code = "bad_setting"
