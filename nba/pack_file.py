"""Reading a pack from YAML, with errors that name file, line, field, value and the way out."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml

from nba.conditions import parse
from nba.errors import ConditionError, PackError
from nba.pack import Action, Pack
from nba.types import NO_ACTION

MAX_BYTES = 1_000_000
_FEATURE = re.compile(r"^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$")
_Where = tuple[str | int, ...]


def built_in_packs() -> dict[str, Path]:
    """The packs that ship with the server, by name."""
    folder = Path(str(resources.files("nba"))) / "packs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_pack(name_or_path: str | Path) -> Pack:
    """The pack of that built-in name or in that file. Raises PackError."""
    path = built_in_packs().get(str(name_or_path), Path(name_or_path))
    try:
        raw = path.read_bytes()
    except OSError as error:
        known = ", ".join(built_in_packs())
        raise PackError(
            f"cannot read pack {str(name_or_path)!r}: {error.strerror}", help=f"name a YAML file or one of: {known}"
        ) from None
    return parse_pack(raw, source=str(path))


def parse_pack(raw: bytes, *, source: str) -> Pack:
    """The pack in these bytes; `source` names them in errors. Raises PackError."""
    return _PackReader(raw, source).read()


class _PackReader:
    """One YAML document with the line of each of its values."""

    def __init__(self, raw: bytes, source: str) -> None:
        self.source, self.lines = source, dict[_Where, int]()
        if len(raw) > MAX_BYTES:
            raise PackError(f"{source}: {len(raw)} bytes", help=f"a pack is at most {MAX_BYTES} bytes")
        try:
            node = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
            self.plain = self._build(node, ()) if node is not None else None
        except UnicodeDecodeError:
            raise PackError(f"{source}: not UTF-8", help="save the file as UTF-8") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error)
            raise PackError(f"{source}{line}: {problem}", help="check indentation, colons and quotes") from None
        except RecursionError:
            raise PackError(f"{source}: nested too deeply", help="a pack is five levels deep") from None

    def _build(self, node: yaml.Node, where: _Where) -> Any:
        self.lines[where] = node.start_mark.line + 1
        if node.start_mark is not None and isinstance(node, yaml.MappingNode):
            built: dict[str, Any] = {}
            for key, value in node.value:
                name = str(key.value)
                self.lines[(*where, name)] = key.start_mark.line + 1
                if name in built:
                    self.fail((*where, name), f"{name!r} stands twice", "keep one of them")
                built[name] = self._build(value, (*where, name))
                self.lines[(*where, name)] = key.start_mark.line + 1
            return built
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*where, i)) for i, child in enumerate(node.value)]
        return _scalar(node)

    def fail(self, where: _Where, what: str, way_out: str) -> NoReturn:
        """Raises PackError for the value at `where`, with its line."""
        known = where
        while known and known not in self.lines:
            known = known[:-1]
        path = ".".join(str(part) for part in where) or "the file"
        raise PackError(f"{self.source}:{self.lines.get(known, 1)}: {path}: {what}", help=way_out, field=path)

    def read(self) -> Pack:
        """The pack, checked."""
        try:
            pack = msgspec.convert(self.plain, Pack, strict=True)
        except msgspec.ValidationError as error:
            message, _, tail = str(error).partition(" - at `")
            where = self._locate(tail.rstrip("`"))
            shown = repr(self._value(where))[:120]
            self.fail(where, f"{message} (found {shown})", "see `nba pack new NAME` for a commented example")
        for check in (self._check_fields, self._check_actions, self._check_moments, self._check_guardrails):
            check(pack)
        return pack

    def _locate(self, path: str) -> _Where:
        """msgspec's `$.moments[...].window` as a path; `[...]` is any key, so the first that fails alone is meant."""
        parts: list[_Where] = [()]
        for name, index in re.findall(r"\.([A-Za-z0-9_]+)|\[([0-9]+|\.\.\.)\]", path):
            step: list[_Where] = []
            for where in parts:
                here = self._value(where)
                if index == "...":
                    step += [(*where, k) for k in (here if isinstance(here, dict) else range(len(here or ())))]
                else:
                    step.append((*where, int(index) if index else name))
            parts = step
        return next((w for w in parts if self._fails(w)), parts[0] if parts else ())

    def _fails(self, where: _Where) -> bool:
        """True where the document is still refused when all but this one branch of its siblings is taken out."""
        plain: Any = self.plain
        for depth, key in enumerate(where):
            parent = self._value(where[:depth])
            if isinstance(parent, dict) and depth in (1, 3):
                plain = _with(plain, where[:depth], {key: parent.get(key)})
        try:
            msgspec.convert(plain, Pack, strict=True)
        except msgspec.ValidationError:
            return True
        return False

    def _value(self, where: _Where) -> Any:
        value: Any = self.plain
        for key in where:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def _check_fields(self, pack: Pack) -> None:
        for name, field in pack.fields.items():
            where: _Where = ("fields", name)
            if field.type == "category" and not field.values:
                self.fail(where, "a category without values", "list its vocabulary: values: [a, b]")
            if len(set(field.values)) != len(field.values):
                self.fail((*where, "values"), "a value stands twice", "list each value once")
            if field.type == "number" and field.range is None:
                self.fail(where, "a number without a range", "say what scales it: range: [0, 100]")
            if field.range is not None and not field.range[0] < field.range[1]:
                self.fail((*where, "range"), f"{list(field.range)} is empty", "write [low, high] with low < high")
            if field.code(field.default) is None:
                self.fail((*where, "default"), f"{field.default!r} is not {field.describe()}", "drop it or mend it")
            if field.feature is not None and not _FEATURE.match(field.feature):
                self.fail((*where, "feature"), f"{field.feature!r}", "write view:feature, as Feast does")
        locale = pack.locale_field
        if locale is not None and (locale not in pack.fields or pack.fields[locale].type != "category"):
            self.fail(("locale_field",), f"{locale!r} is no category field", "name one of the pack's category fields")

    def _check_actions(self, pack: Pack) -> None:
        for action_id, action in pack.actions.items():
            where: _Where = ("actions", action_id)
            for metric in ("metric", "guardrail_metric"):
                outcome = getattr(action, metric)
                if outcome is not None and outcome not in pack.outcomes:
                    self.fail((*where, metric), f"unknown outcome {outcome!r}", f"one of {', '.join(pack.outcomes)}")
            self._check_wording(pack, action, where)
        for name, outcome in pack.outcomes.items():
            if not outcome.range[0] < outcome.range[1]:
                self.fail(("outcomes", name, "range"), f"{list(outcome.range)} is empty", "write [low, high]")

    def _check_wording(self, pack: Pack, action: Action, where: _Where) -> None:
        for treatment, messages in action.treatments.items():
            here = (*where, "treatments", treatment)
            for language in messages:
                if language not in pack.languages:
                    known = ", ".join(pack.languages)
                    self.fail((*here, language), f"unknown language {language!r}", f"the pack's languages: {known}")
            if pack.languages[0] not in messages:
                self.fail(here, f"no message in {pack.languages[0]!r}", "the first language is the fallback: add it")

    def _check_moments(self, pack: Pack) -> None:
        for name, moment in pack.moments.items():
            where: _Where = ("moments", name)
            self._known((*where, "fields"), moment.fields, pack.fields, "field")
            self._known((*where, "actions"), moment.actions, pack.actions, "action")
            self._known((*where, "reward"), tuple(moment.reward), pack.outcomes, "outcome")
            if NO_ACTION in moment.actions:
                self.fail((*where, "actions"), f"{NO_ACTION!r} is always there", "drop it from the list")
            fields = pack.moment_fields(name)
            for action_id in moment.action_ids:
                self._condition(("actions", action_id, "trigger"), pack.action(action_id).trigger, fields, name)
            for i, rule in enumerate(moment.rules):
                self._known((*where, "rules", i, "action"), (rule.action,), moment.action_ids, "action")
                self._condition((*where, "rules", i, "when"), rule.when, fields, name)

    def _check_guardrails(self, pack: Pack) -> None:
        for name, guardrail in pack.guardrails.items():
            where: _Where = ("guardrails", name)
            self._known((*where, "remove"), guardrail.remove, pack.actions, "action")
            self._known((*where, "moments"), guardrail.moments, pack.moments, "moment")
            for moment_name, moment in pack.moments.items():
                if set(guardrail.remove) & set(moment.actions) and moment_name in (guardrail.moments or pack.moments):
                    self._condition((*where, "when"), guardrail.when, pack.moment_fields(moment_name), moment_name)

    def _known(self, where: _Where, names: tuple[str, ...], known: Any, noun: str) -> None:
        for i, name in enumerate(names):
            here = (*where, i) if (*where, i) in self.lines else where
            if name not in known:
                self.fail(here, f"unknown {noun} {name!r}", f"known are {', '.join(known)}")
            if name in names[:i]:
                self.fail(here, f"{name!r} stands twice", "keep one of them")

    def _condition(self, where: _Where, text: str, fields: Any, moment: str) -> None:
        try:
            parse(text, fields)
        except ConditionError as error:
            self.fail(where, f"{error.message} (in moment {moment!r})", error.help)


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    value = loader.construct_object(node, deep=True)
    return value if isinstance(value, str | int | float | bool) or value is None else str(node.value)


def _with(plain: Any, where: _Where, value: Any) -> Any:
    """A copy of the document with the value at `where` replaced."""
    if not where:
        return value
    copy = dict(plain) if isinstance(plain, dict) else list(plain)
    copy[where[0]] = _with(plain[where[0]], where[1:], value)
    return copy
