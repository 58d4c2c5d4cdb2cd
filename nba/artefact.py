"""A policy on disk: a folder with `policy.json`, `pack.json` and `weights.safetensors`. Never a pickle.

`policy.json` holds the kind and plain settings of each moment's policy, what each answered to a few questions when
it was saved, and the SHA-256 of the other two files; the artefact's digest is the SHA-256 of `policy.json`, so it
names the whole. The pack travels along, so that a decision can be replayed after the pack has changed. Only what is
known is loaded; all else is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import stat
import tempfile
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nba import encoder
from nba.decide import ask
from nba.decision import PolicyRef
from nba.errors import ArtefactError, NbaError, ShapeError
from nba.guardrails import action_mask
from nba.moment_plan import MomentPlan, plan_pack
from nba.pack import PACK, Pack
from nba.pack_checks import check_pack
from nba.pack_yaml import Document
from nba.policies import KINDS
from nba.snapshot import Snapshot
from nba.treatments import treatment_plan, treatment_questions
from nba.types import ActionMask, Contexts, Facts, Policy

SCHEMA = 1
MAX_BYTES = 512 * 1024 * 1024  # of one file
SAME = 1e-9  # how far an answer may lie from the saved one: machines round sines differently
_SECOND = "/treatments"  # after the moment, in the name of an array of its policy of phrasings
_FILES = ("pack.json", "weights.safetensors")
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what a stranger's JSON may raise
_AGAIN = "the files are damaged or not ours: fetch the artefact again, or train again"


class _Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    schema: int
    encoder: int
    kind: str
    pack_digest: str
    moments: dict[str, dict[str, Any]]
    kinds: dict[str, str] = {}  # of moments that have another: a network that plans sessions, say
    answers: dict[str, list[list[float]]]  # moment -> distributions for `_questions`
    sha256: dict[str, str]
    treatments: dict[str, dict[str, Any]] = {}  # moments whose phrasings are chosen by a policy
    treatment_answers: dict[str, list[list[float]]] = {}


_manifest = msgspec.json.Decoder(_Manifest)


def save_artefact(
    folder: Path,
    pack: Pack,
    kind: str,
    policies: Mapping[str, Policy],
    treatments: Mapping[str, Policy] | None = None,
) -> str:
    """Writes a policy for every moment of the pack to a new folder; its digest.

    `kind` is that of most moments; a policy of another kind in `KINDS` keeps its own.
    `treatments` are the policies of phrasings, of the same kind, in moments that have one.
    The folder appears whole or not at all. Raises ArtefactError.
    """
    if folder.exists():
        raise ArtefactError(f"{folder} exists", help="an artefact is never edited: name a new folder")
    _check_moments(pack, policies)
    _check_kind(kind)
    kinds = {moment: _kind_of(moment, policy) for moment, policy in policies.items()}
    _check_treatments(pack, kind, treatments or {})
    arrays: dict[str, NDArray[Any]] = {}
    settings = {moment: _take_apart(policy, f"{moment}/", arrays) for moment, policy in policies.items()}
    second = {m: _take_apart(policy, f"{m}{_SECOND}/", arrays) for m, policy in (treatments or {}).items()}
    contents = {"pack.json": msgspec.json.encode(pack), "weights.safetensors": save(arrays)}
    manifest = _Manifest(
        schema=SCHEMA,
        encoder=encoder.VERSION,
        kind=kind,
        pack_digest=pack.digest,
        moments=settings,
        kinds={moment: own for moment, own in kinds.items() if own != kind},
        answers={name: _answers(policies[name], plan) for name, plan in plan_pack(pack).items()},
        treatments=second,
        treatment_answers={
            name: _treatment_answers(treatments[name], plan)
            for name, plan in plan_pack(pack).items()
            if treatments and name in treatments
        },
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    contents["policy.json"] = msgspec.json.encode(manifest, order="sorted")
    _write(folder, contents)
    return hashlib.sha256(contents["policy.json"]).hexdigest()


def load_artefact(
    folder: Path, *, name: str | None = None, version: str = "0", arm: str = "champion", pack: Pack | None = None
) -> Snapshot:
    """The snapshot in this folder; hashes, shapes and answers checked.

    With `pack`, the artefact must have been made for it. Raises ArtefactError.
    """
    raw = _read(folder / "policy.json")
    try:
        manifest = _manifest.decode(raw)
    except _UNREADABLE as error:
        raise ArtefactError(f"{folder}/policy.json: {error}", help=_AGAIN) from None
    if (manifest.schema, manifest.encoder) != (SCHEMA, encoder.VERSION):
        raise ArtefactError(
            f"{folder} has schema {manifest.schema}, encoder {manifest.encoder}",
            help=f"this server reads schema {SCHEMA}, encoder {encoder.VERSION}: train again",
        )
    contents = {file: _read(folder / file) for file in _FILES}
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != manifest.sha256.get(file):
            raise ArtefactError(f"{folder}/{file} is not what policy.json says", help=_AGAIN)
    made_for = _stored_pack(folder, contents["pack.json"], manifest.pack_digest)
    if pack is not None and pack.digest != made_for.digest:
        raise ArtefactError(
            f"{folder} was made for another {pack.pack!r} pack (version {made_for.version}, not {pack.version})",
            help="the pack has changed since: train for the new one (nba train), or serve the old file",
        )
    policies, treatments = _put_together(folder, manifest, contents["weights.safetensors"])
    _check_moments(made_for, policies)
    _check_treatments(made_for, manifest.kind, treatments)
    digest = hashlib.sha256(raw).hexdigest()
    ref = PolicyRef(name=name or made_for.pack, version=version, kind=manifest.kind, digest=digest, arm=arm)
    snapshot = Snapshot.of(pack or made_for, ref, policies, treatments)
    _compare(folder, snapshot, manifest)
    return snapshot


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ArtefactError(f"unknown policy kind {kind!r}", help=f"known are {', '.join(KINDS)}")


def _kind_of(moment: str, policy: Policy) -> str:
    """The kind of a policy, by its type."""
    found = next((name for name, kind in KINDS.items() if type(policy) is kind), None)
    if found is None:
        raise ArtefactError(
            f"the policy of {moment!r} is a {type(policy).__name__}, which is of no kind",
            help=f"known are {', '.join(KINDS)}",
        )
    return found


def _check_moments(pack: Pack, policies: Mapping[str, Policy]) -> None:
    if set(policies) != set(pack.moments):
        raise ArtefactError(
            f"policies for {sorted(policies)}, not for {sorted(pack.moments)}", help="give one for each moment"
        )


def _check_treatments(pack: Pack, kind: str, treatments: Mapping[str, Policy]) -> None:
    phrased = [name for name, plan in plan_pack(pack).items() if treatment_plan(plan) is not None]
    if not set(treatments) <= set(phrased):
        raise ArtefactError(
            f"policies of phrasings for {sorted(treatments)}; only {phrased} have phrasings",
            help="leave out the other moments",
        )
    for moment, policy in treatments.items():
        if type(policy) is not KINDS[kind]:
            raise ArtefactError(
                f"the policy of phrasings of {moment!r} is a {type(policy).__name__}, not a {KINDS[kind].__name__}",
                help=f"an artefact of kind {kind!r} has that kind for all phrasings",
            )


def _take_apart(policy: Any, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Settings of a policy as JSON; its arrays, and those of the models in it, under `prefix` into `arrays`."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(policy):
        value = getattr(policy, field.name)
        if isinstance(value, np.ndarray):
            arrays[prefix + field.name] = np.ascontiguousarray(value)
        elif dataclasses.is_dataclass(value):
            settings[field.name] = _take_apart(value, f"{prefix}{field.name}/", arrays)
        elif isinstance(value, tuple):
            settings[field.name] = [
                _take_apart(part, f"{prefix}{field.name}/{i}/", arrays) for i, part in enumerate(value)
            ]
        else:
            settings[field.name] = value.item() if isinstance(value, np.generic) else value
        numbers = value if isinstance(value, np.ndarray | np.generic | float | int) else 0.0
        if not np.isfinite(numbers).all():
            raise ArtefactError(
                f"{prefix}{field.name} is not finite", help="the learning diverged: look at its rewards"
            )
    return settings


def _put_together(folder: Path, manifest: _Manifest, weights: bytes) -> tuple[dict[str, Policy], dict[str, Policy]]:
    """The policies of actions and those of phrasings."""
    for kind in (manifest.kind, *manifest.kinds.values()):
        _check_kind(kind)
    try:
        arrays = load(weights)
        policies, treatments = (
            {
                name: _build(KINDS[kinds.get(name, manifest.kind)], settings, f"{name}{level}/", arrays)
                for name, settings in told.items()
            }
            for level, told, kinds in (
                ("", manifest.moments, manifest.kinds),
                (_SECOND, manifest.treatments, dict[str, str]()),
            )
        )
        if arrays:
            raise ValueError(f"unknown arrays {sorted(arrays)}")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, ShapeError) as error:
        raise ArtefactError(f"{folder} does not hold a {manifest.kind} policy: {error}", help=_AGAIN) from None
    return policies, treatments


def _build(kind: type[Any], settings: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """A policy, or a model in one. What it is made of is taken out of `settings` and `arrays`."""
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        if typing.get_origin(hint) is np.ndarray:
            values[name] = _array(prefix + name, hint, arrays)
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[name] = _build(hint, settings.pop(name), f"{prefix}{name}/", arrays)
        elif typing.get_origin(hint) is tuple:
            part, _ = typing.get_args(hint)
            told = msgspec.convert(settings.pop(name), list[dict[str, Any]])
            values[name] = tuple(_build(part, each, f"{prefix}{name}/{i}/", arrays) for i, each in enumerate(told))
        else:
            values[name] = msgspec.convert(settings.pop(name), hint, strict=True)
    if settings:
        raise ValueError(f"unknown settings {sorted(settings)} of {prefix}")
    return kind(**values)


def _array(name: str, hint: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    array = arrays.pop(name)
    (wanted,) = typing.get_args(typing.get_args(hint)[1])
    if array.dtype != wanted:
        raise ValueError(f"array {name!r} is {array.dtype}, not {np.dtype(wanted)}")
    if not np.isfinite(array).all():
        raise ValueError(f"array {name!r} is not finite")
    return array


def _stored_pack(folder: Path, raw: bytes, digest: str) -> Pack:
    try:
        pack = PACK.decode(raw)
        check_pack(pack, Document(f"{folder}/pack.json", None))
    except (*_UNREADABLE, NbaError) as error:
        raise ArtefactError(f"{folder}/pack.json: {error}", help=_AGAIN) from None
    if pack.digest != digest:
        raise ArtefactError(f"{folder}/pack.json is not the pack it was made for", help=_AGAIN)
    return pack


def _questions(plan: MomentPlan) -> Facts:
    """A few contexts for which a policy's answers are kept: nothing known, then every fact low, middling, high."""
    ends = [
        field.range or (0.0, {"category": len(field.values) - 1.0, "boolean": 1.0, "time": 2e9}.get(field.type, 1.0))
        for field in plan.encoder.fields.values()
    ]
    low, high = np.array(ends).reshape(-1, 2).T
    facts: Facts = low + np.array([[np.nan], [0.0], [0.5], [1.0]]) * (high - low)
    whole = [field.type in ("category", "boolean") for field in plan.encoder.fields.values()]
    facts[:, whole] = np.floor(facts[:, whole])
    return facts


def _answers(policy: Policy, plan: MomentPlan) -> list[list[float]]:
    """The policy's distributions for `_questions`. Raises ArtefactError where it has none that could be sampled."""
    facts = _questions(plan)
    mask = action_mask(plan.stages, facts, len(plan.action_ids))
    return _asked(policy, plan, plan.encoder.encode(facts), mask)


def _treatment_answers(policy: Policy, plan: MomentPlan) -> list[list[float]]:
    """As `_answers`, of a policy of phrasings: each question once for each action that has any."""
    pairs = treatment_plan(plan)
    if pairs is None:
        return []
    contexts, masks = plan.encoder.encode(_questions(plan)), treatment_questions(plan, pairs)
    each = np.repeat(contexts, len(masks), axis=0)
    return _asked(policy, plan, each, np.tile(masks, (len(contexts), 1)))


def _asked(policy: Policy, plan: MomentPlan, contexts: Contexts, mask: ActionMask) -> list[list[float]]:
    try:
        distribution, sound = ask(policy, contexts, mask)
    except Exception as error:
        raise ArtefactError(f"the policy of moment {plan.name!r} fails: {error!r}", help="train again") from error
    if not sound.all():
        raise ArtefactError(f"the policy of moment {plan.name!r} gives no distribution", help="train again")
    answers: list[list[float]] = distribution.tolist()
    return answers


def _compare(folder: Path, snapshot: Snapshot, manifest: _Manifest) -> None:
    plans = snapshot.plans
    asked = [
        (name, _answers(snapshot.policies[name], plan), manifest.answers.get(name, [])) for name, plan in plans.items()
    ]
    asked += [
        (name, _treatment_answers(policy, plans[name]), manifest.treatment_answers.get(name, []))
        for name, policy in snapshot.treatments.items()
    ]
    for name, told, then in asked:
        now = np.array(told)
        if [len(row) for row in then] != [len(row) for row in now] or np.abs(now - then).max() > SAME:
            raise ArtefactError(
                f"{folder}: the policy of moment {name!r} answers otherwise than when saved", help=_AGAIN
            )


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """The files in a new folder, which gets its name once all are on disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, content in contents.items():
            with (building / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        building.rename(folder)
        parent = os.open(folder.parent, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise ArtefactError(f"cannot write {folder}: {error.strerror}", help="look at the disk and the path") from None


def _read(path: Path) -> bytes:
    """A file's content. Follows no link and waits for no pipe: the folder may come from elsewhere."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                raise ArtefactError(
                    f"{path} is no plain file of at most {MAX_BYTES} bytes ({found.st_size})", help="fetch it again"
                )
            return file.read(MAX_BYTES)
    except OSError as error:
        raise ArtefactError(
            f"cannot read {path}: {error.strerror}", help="train, or fetch the artefact again"
        ) from None
