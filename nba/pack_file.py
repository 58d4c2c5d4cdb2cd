"""Reading a pack from YAML, with errors that name file, line, field, value and the way out."""

from __future__ import annotations

import re
import typing
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from nba.errors import PackError, shown
from nba.facts import Field
from nba.pack import Action, Guardrail, Moment, Outcome, Pack, Rule
from nba.pack_checks import check_pack, suggest
from nba.pack_yaml import MAX_BYTES, Document, Where, read_document

_SECTIONS: dict[str, type[Struct]] = {
    "fields": Field,
    "moments": Moment,
    "actions": Action,
    "guardrails": Guardrail,
    "outcomes": Outcome,
}
_WANTED = {  # the way out, by the type that was expected
    "str": "text that YAML takes for something else (no, on, 12) stands in quotes",
    "int": "write a whole number in range, without quotes",
    "float": "write a number in range, without quotes",
    "bool": "write true or false",
    "array": "write a list: [a, b]",
    "object": "write keys with values, one a line",
}


def built_in_packs() -> dict[str, Path]:
    """The packs that ship with the server, by name."""
    folder = Path(str(resources.files("nba"))) / "packs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_pack(name_or_path: str | Path) -> Pack:
    """The pack of that built-in name or in that file. Raises PackError."""
    path = built_in_packs().get(str(name_or_path), Path(name_or_path))
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        known = ", ".join(built_in_packs())
        reason = getattr(error, "strerror", None) or error
        raise PackError(
            f"cannot read pack {shown(str(name_or_path))}: {reason}", help=f"name a YAML file or one of: {known}"
        ) from None
    return parse_pack(raw, source=str(path))


def parse_pack(raw: bytes, *, source: str) -> Pack:
    """The pack in these bytes; `source` names them in errors. Raises PackError."""
    document = read_document(raw, source)
    pack = _convert(document)
    check_pack(pack, document)
    return pack


def _convert(document: Document) -> Pack:
    """The document as the types of a pack. Raises PackError."""
    try:
        return msgspec.convert(document.plain, Pack, strict=True)
    except msgspec.ValidationError as error:
        raise _explain(document, str(error)) from None


def _explain(document: Document, text: str) -> PackError:
    """What msgspec found wrong, with its place and the way out."""
    message, _, path = text.partition(" - at `")
    where = _locate(document.plain, path, text)
    unknown = re.search(r"unknown field `(.*)`", message)
    if unknown:
        way_out = suggest(unknown[1], _struct_at(where).__struct_fields__)
        return document.error((*where, unknown[1]), f"unknown key {unknown[1]!r}", way_out)
    if "missing required" in message:
        return document.error(where, message, "add it; `nba pack new NAME` writes a commented example")
    found = where[-1] if path.startswith("key`") else document.value(where)
    return document.error(where, f"{message}, found {shown(found)}", _way_out(where, message))


def _locate(plain: Any, path: str, text: str) -> Where:
    """msgspec's path (`$.moments[...].window`) as keys; `[...]` is the first key that alone gives the same error."""
    where: Where = ()
    for name, index in re.findall(r"\.([A-Za-z0-9_]+)|\[([0-9]+|\.\.\.)\]", path + "[...]" * path.startswith("key`")):
        if index != "...":
            where = (*where, int(index) if index else name)
            continue
        container = _at(plain, where)
        for key in container:
            alone = _with(plain, where, {key: container[key]})
            if _error(alone) == text:
                plain, where = alone, (*where, key)
                break
    return where


def _error(plain: Any) -> str:
    try:
        msgspec.convert(plain, Pack, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _at(plain: Any, where: Where) -> Any:
    for key in where:
        plain = plain[key]
    return plain


def _with(plain: Any, where: Where, value: Any) -> Any:
    """A copy of the document with the value at `where` replaced."""
    if not where:
        return value
    copy = plain.copy()
    copy[where[0]] = _with(plain[where[0]], where[1:], value)
    return copy


def _struct_at(where: Where) -> type[Struct]:
    if "rules" in where:
        return Rule
    return _SECTIONS[str(where[0])] if where else Pack


def _way_out(where: Where, message: str) -> str:
    key = next((part for part in reversed(where) if isinstance(part, str)), "")
    if key in ("window", "max_age"):
        return "write a number and its unit: 90s, 15m, 24h, 7d"
    if "matching regex" in message:
        return "a name has lower-case letters, digits and underscores, and begins with a letter"
    if "enum value" in message:
        choices = typing.get_args(typing.get_type_hints(_struct_at(where))[key])
        return f"write one of {', '.join(choices)}"
    wanted = re.search(r"Expected `(\w+)`", message)
    return _WANTED.get(wanted[1] if wanted else "", "`nba pack new NAME` writes a commented example")
