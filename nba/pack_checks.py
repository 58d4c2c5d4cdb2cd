"""What the types of a pack cannot say: that names exist, ranges are ranges and conditions parse."""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Collection, Mapping

from nba.conditions import ALWAYS, parse
from nba.errors import ConditionError, shown
from nba.facts import Field
from nba.pack import Action, Guardrail, Moment, Pack
from nba.pack_yaml import Document, Where
from nba.policies import KINDS
from nba.types import NO_ACTION

_FEATURE = re.compile(r"^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$")


def check_pack(pack: Pack, document: Document) -> None:
    """Raises PackError for the first thing that is wrong, with its place in the document it came from."""
    _Checks(pack, document).run()


def suggest(name: str, known: Collection[str]) -> str:
    """The way out of an unknown name: the nearest known one, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}known are {', '.join(known) or 'none'}"


class _Checks:
    def __init__(self, pack: Pack, document: Document) -> None:
        self.pack, self.lines, self.fail = pack, document.lines, document.fail

    def run(self) -> None:
        self._known(("candidates",), self.pack.candidates, KINDS, "policy kind")
        for name, field in self.pack.fields.items():
            self._field(("fields", name), name, field)
        self._locale()
        for name, outcome in self.pack.outcomes.items():
            self._range(("outcomes", name, "range"), outcome.range)
        for name, action in self.pack.actions.items():
            self._action(("actions", name), action)
        for name, moment in self.pack.moments.items():
            self._moment(("moments", name), name, moment)
        for name, guardrail in self.pack.guardrails.items():
            self._guardrail(("guardrails", name), guardrail)

    def _field(self, where: Where, name: str, field: Field) -> None:
        if keyword.iskeyword(name) or name in (ALWAYS, "missing", "true", "false"):
            self.fail(where, f"{name!r} has a meaning in conditions", f"rename it, such as {name}_value")
        if field.type == "category" and not field.values:
            self.fail(where, "a category without values", "list its vocabulary: values: [a, b]")
        if field.type != "category" and field.values:
            self.fail((*where, "values"), f"a {field.type} with values", "drop them, or make it type: category")
        if len(set(field.values)) != len(field.values):
            self.fail((*where, "values"), "a value stands twice", "list each value once")
        if field.type == "number" and field.range is None:
            self.fail(where, "a number without a range", "say what scales it: range: [0, 100]")
        if field.type != "number" and field.range is not None:
            self.fail((*where, "range"), f"a {field.type} with a range", "drop it, or make it type: number")
        if field.range is not None:
            self._range((*where, "range"), field.range)
        if field.code(field.default) is None:
            self.fail((*where, "default"), f"{field.default!r} is not {field.describe()}", "drop it or mend it")
        if field.feature is not None and not _FEATURE.match(field.feature):
            self.fail(
                (*where, "feature"), f"{shown(field.feature)} names no feature", "write view:feature, as Feast does"
            )

    def _range(self, where: Where, ends: tuple[float, float]) -> None:
        # A length beyond 1e300 would overflow where values are scaled by it.
        if not 0.0 < ends[1] - ends[0] < 1e300:
            self.fail(where, f"{list(ends)} is no range", "write [low, high] with low < high")

    def _locale(self) -> None:
        name = self.pack.locale_field
        if name is not None and (name not in self.pack.fields or self.pack.fields[name].type != "category"):
            self.fail(("locale_field",), f"{name!r} is no category field", "name one of the pack's category fields")

    def _action(self, where: Where, action: Action) -> None:
        if where[1] == NO_ACTION and (action.trigger.strip() != ALWAYS or action.treatments):
            self.fail(where, f"{NO_ACTION!r} is always possible and says nothing", "trigger: always, and no treatments")
        for metric in ("metric", "guardrail_metric"):
            outcome = getattr(action, metric)
            if outcome is not None:
                self._known((*where, metric), (outcome,), self.pack.outcomes, "outcome")
        for treatment, messages in action.treatments.items():
            here = (*where, "treatments", treatment)
            for language in messages:
                self._known((*here, language), (language,), self.pack.languages, "language")
            if self.pack.languages[0] not in messages:
                self.fail(
                    here, f"no message in {self.pack.languages[0]!r}", "the first language is the fallback: add it"
                )
        if not any(where[1] in moment.action_ids for moment in self.pack.moments.values()):
            self._condition((*where, "trigger"), action.trigger, self.pack.fields, "any")

    def _moment(self, where: Where, name: str, moment: Moment) -> None:
        self._known((*where, "fields"), moment.fields, self.pack.fields, "field")
        if NO_ACTION in moment.actions:
            self.fail((*where, "actions"), f"{NO_ACTION!r} is always there", "drop it from the list")
        self._known((*where, "actions"), moment.actions, self.pack.actions, "action")
        self._known((*where, "reward"), tuple(moment.reward), self.pack.outcomes, "outcome")
        fields = self.pack.moment_fields(name)
        for action_id in moment.actions:
            self._condition(("actions", action_id, "trigger"), self.pack.action(action_id).trigger, fields, name)
        for i, rule in enumerate(moment.rules):
            self._known((*where, "rules", i, "action"), (rule.action,), moment.action_ids, "action")
            self._condition((*where, "rules", i, "when"), rule.when, fields, name)

    def _guardrail(self, where: Where, guardrail: Guardrail) -> None:
        if NO_ACTION in guardrail.remove:
            self.fail((*where, "remove"), f"{NO_ACTION!r} is always eligible", "drop it from the list")
        self._known((*where, "remove"), guardrail.remove, self.pack.actions, "action")
        self._known((*where, "moments"), guardrail.moments, self.pack.moments, "moment")
        touched = {
            name: moment
            for name, moment in self.pack.moments.items()
            if name in (guardrail.moments or self.pack.moments) and set(guardrail.remove) & set(moment.actions)
        }
        if not touched:
            self.fail(
                (*where, "remove"), "none of its moments has one of these actions", "mend it or drop the guardrail"
            )
        for name in touched:
            self._condition((*where, "when"), guardrail.when, self.pack.moment_fields(name), name)

    def _known(self, where: Where, names: tuple[str, ...], known: Collection[str], noun: str) -> None:
        for i, name in enumerate(names):
            here = next((w for w in ((*where, i), (*where, name)) if w in self.lines), where)
            if name not in known:
                self.fail(here, f"unknown {noun} {name!r}", suggest(name, known))
            if name in names[:i]:
                self.fail(here, f"{name!r} stands twice", "keep one of them")

    def _condition(self, where: Where, text: str, fields: Mapping[str, Field], moment: str) -> None:
        try:
            parse(text, fields)
        except ConditionError as error:
            self.fail(where, f"{error.message} (in moment {moment!r})", error.help)
