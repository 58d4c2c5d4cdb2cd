"""A YAML file as plain values, with the line of each, so that an error can say where.

Packs use a small part of YAML: mappings with plain keys, lists, text, numbers and truths. Aliases and tags are
refused: a few lines of aliases can stand for gigabytes, and a tag asks for a type that no pack has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml

from nba.errors import PackError, shown

MAX_BYTES = 1_000_000
Where: TypeAlias = tuple[str | int, ...]  # keys and list places, from the top

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")}
_TIME_TAG = "tag:yaml.org,2002:timestamp"  # a pack's times are text


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content and the line of each value by its path; lines may be unknown."""

    source: str  # the file, for messages
    plain: Any
    lines: dict[Where, int] = field(default_factory=dict)

    def value(self, where: Where) -> Any:
        """What stands there, None where nothing does."""
        value = self.plain
        for key in where:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def error(self, where: Where, what: str, way_out: str) -> PackError:
        """What to raise for the value at `where`: it names the file, the line and the path."""
        known = where
        while known not in self.lines and known:
            known = known[:-1]
        path = ".".join(str(part) for part in where) or "the file"
        return PackError(f"{self.source}:{self.lines.get(known, 1)}: {path}: {what}", help=way_out, field=path)

    def fail(self, where: Where, what: str, way_out: str) -> NoReturn:
        """Raises `error`."""
        raise self.error(where, what, way_out) from None


def read_document(raw: bytes, source: str) -> Document:
    """The YAML document in these bytes. Raises PackError."""
    if len(raw) > MAX_BYTES:
        raise PackError(f"{source}: more than {MAX_BYTES} bytes", help="a pack is smaller: split it")
    try:
        node = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
        plain, lines = (None, {}) if node is None else _Builder(source).build(node)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise PackError(f"{source}:{line}: not UTF-8", help="save the file as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line_of = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise PackError(f"{source}{line_of}: {problem}", help="check indentation, colons and quotes") from None
    except RecursionError:
        raise PackError(f"{source}: nested too deeply", help="a pack is five levels deep") from None
    if plain is None:
        raise PackError(f"{source}: the file is empty", help="start from `nba pack new NAME`")
    return Document(source, plain, lines)


class _Builder:
    """Turns YAML's nodes into plain values and notes their lines."""

    def __init__(self, source: str) -> None:
        self._lines: dict[Where, int] = {}
        self._fail = Document(source, None, self._lines).fail
        self._seen = set[int]()
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node) -> tuple[Any, dict[Where, int]]:
        """The document's value, and the lines. Raises PackError."""
        return self._any(node, (), 1), self._lines

    def _any(self, node: yaml.Node, where: Where, line: int) -> Any:
        self._lines[where] = line
        if id(node) in self._seen:
            self._fail(where, "an alias (*name)", "write it out: packs do not use aliases")
        self._seen.add(id(node))
        if node.tag not in _PLAIN_TAGS and node.tag != _TIME_TAG:
            self._fail(where, f"a tag ({node.tag})", "drop it; text that begins with ! stands in quotes")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            # An alias stands where its anchor did, which is before the list.
            return [self._any(child, (*where, i), max(line, _line(child))) for i, child in enumerate(node.value)]
        return self._scalar(node, where)

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._lines[where] = _line(key)
                self._fail(where, "a key that is a list or a mapping", "a key is a plain name")
            self._refuse_surrogates(key, where)
            here = (*where, key.value)
            if key.value in built:
                first, self._lines[here] = self._lines[here], _line(key)
                self._fail(here, f"{key.value!r} stands in line {first} already", "keep one of them")
            built[key.value] = self._any(value, here, _line(key))
        return built

    def _scalar(self, node: yaml.Node, where: Where) -> str | int | float | bool | None:
        self._refuse_surrogates(node, where)
        if node.tag == _TIME_TAG:
            return str(node.value)
        try:
            value: str | int | float | bool | None = self._scalars.construct_object(node)
        except (ValueError, KeyError):  # thousands of digits; `!!bool maybe`
            self._fail(where, f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}", "put text in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            self._fail(where, f"{node.value} is not a finite number", "write a number such as 0.5")
        return value

    def _refuse_surrogates(self, node: yaml.Node, where: Where) -> None:
        """Half a character, which YAML can write as an escape and UTF-8 cannot hold."""
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            self._fail(where, f"{shown(node.value)} is not text", r"write a whole character, not half of one (\uD800)")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
