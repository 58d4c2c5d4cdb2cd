"""What can go wrong, one class for each thing a caller can handle.

Every error says what is wrong and the value, then `help:` with the next step. `code` is the stable word
that the HTTP contract uses for it; `field` is the path of the offending field, where there is one.
"""

from __future__ import annotations

from typing import ClassVar


class NbaError(Exception):
    """Base of every error this project raises on purpose."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, help: str, field: str | None = None) -> None:
        super().__init__(f"{message}\nhelp: {help}")
        self.message = message
        self.help = help
        self.field = field


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
