"""A policy on disk: a folder with `policy.json`, `pack.json` and `weights.safetensors`. Never a pickle.

`policy.json` holds the kind and plain settings of each moment's policy and the SHA-256 of the other two files;
the artefact's digest is the SHA-256 of `policy.json`, so it names the whole. The pack travels along, so that a
decision can be replayed after the pack has changed. Only what is known is loaded; all else is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
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
from nba.decision import PolicyRef
from nba.errors import ArtefactError
from nba.pack import Pack
from nba.policies import KINDS
from nba.snapshot import Snapshot
from nba.types import Policy

SCHEMA = 1
MAX_BYTES = 512 * 1024 * 1024  # of one file, checked before it is read
_FILES = ("pack.json", "weights.safetensors")


class _Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    encoder: int
    kind: str
    pack_digest: str
    moments: dict[str, dict[str, Any]]
    sha256: dict[str, str]


def save_artefact(folder: Path, pack: Pack, kind: str, policies: Mapping[str, Policy]) -> str:
    """Writes a policy for every moment of the pack to a new folder; its digest. Raises ArtefactError."""
    if folder.exists():
        raise ArtefactError(f"{folder} exists", help="an artefact is never edited: name a new folder")
    arrays: dict[str, NDArray[Any]] = {}
    settings = {moment: _take_apart(policy, f"{moment}/", arrays) for moment, policy in policies.items()}
    bad = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if bad is not None:
        raise ArtefactError(f"array {bad!r} is not finite", help="the learning diverged: look at its rewards")
    contents = {"pack.json": msgspec.json.encode(pack), "weights.safetensors": save(arrays)}
    manifest = _Manifest(
        schema=SCHEMA,
        encoder=encoder.VERSION,
        kind=kind,
        pack_digest=pack.digest,
        moments=settings,
        sha256={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    )
    contents["policy.json"] = msgspec.json.encode(manifest, order="sorted")
    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    for name, content in contents.items():
        (building / name).write_bytes(content)
    building.rename(folder)
    return hashlib.sha256(contents["policy.json"]).hexdigest()


def load_artefact(
    folder: Path, *, name: str | None = None, version: str = "0", arm: str = "champion", pack: Pack | None = None
) -> Snapshot:
    """The snapshot in this folder, every hash and shape checked.

    With `pack`, the artefact must have been made for it. Raises ArtefactError.
    """
    raw = _read(folder / "policy.json")
    try:
        manifest = msgspec.json.decode(raw, type=_Manifest)
    except msgspec.MsgspecError as error:
        raise ArtefactError(f"{folder}/policy.json: {error}", help="the file is damaged: fetch it again") from None
    if (manifest.schema, manifest.encoder) != (SCHEMA, encoder.VERSION):
        raise ArtefactError(
            f"{folder} has schema {manifest.schema}, encoder {manifest.encoder}",
            help=f"this server reads schema {SCHEMA}, encoder {encoder.VERSION}: train again",
        )
    if manifest.kind not in KINDS:
        raise ArtefactError(f"unknown policy kind {manifest.kind!r}", help=f"known are {', '.join(KINDS)}")
    contents = {file: _read(folder / file) for file in _FILES}
    for file, content in contents.items():
        if hashlib.sha256(content).hexdigest() != manifest.sha256.get(file):
            raise ArtefactError(f"{folder}/{file} is not what policy.json says", help="fetch the artefact again")
    made_for = _stored_pack(folder, contents["pack.json"], manifest.pack_digest)
    if pack is not None and pack.digest != made_for.digest:
        raise ArtefactError(
            f"{folder} was made for another {pack.pack!r} pack (version {made_for.version}, not {pack.version})",
            help="the pack has changed since: train for the new one (nba train), or serve the old file",
        )
    policies = _put_together(folder, manifest, contents["weights.safetensors"])
    ref = PolicyRef(
        name=name or made_for.pack, version=version, kind=manifest.kind, digest=hashlib.sha256(raw).hexdigest(), arm=arm
    )
    snapshot = Snapshot.of(pack or made_for, ref, policies)
    _probe(folder, snapshot)
    return snapshot


def _take_apart(policy: Any, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Settings of a policy as JSON; its arrays, and those of the models in it, under `prefix` into `arrays`."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(policy):
        value = getattr(policy, field.name)
        if isinstance(value, np.ndarray):
            arrays[prefix + field.name] = np.ascontiguousarray(value)
        elif dataclasses.is_dataclass(value):
            settings[field.name] = _take_apart(value, f"{prefix}{field.name}/", arrays)
        else:
            settings[field.name] = value
    return settings


def _put_together(folder: Path, manifest: _Manifest, weights: bytes) -> dict[str, Policy]:
    try:
        arrays = load(weights)
        policies = {
            moment: _build(KINDS[manifest.kind], settings, f"{moment}/", arrays)
            for moment, settings in manifest.moments.items()
        }
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{folder} does not hold a {manifest.kind} policy: {error}", help="train again") from None
    bad = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if bad is not None:
        raise ArtefactError(f"{folder}: array {bad!r} is not finite", help="train again")
    return policies


def _build(kind: type[Any], settings: dict[str, Any], prefix: str, arrays: dict[str, NDArray[Any]]) -> Any:
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[field.name] = _build(hint, settings[field.name], f"{prefix}{field.name}/", arrays)
        elif prefix + field.name in arrays:
            values[field.name] = arrays[prefix + field.name]
        else:
            values[field.name] = msgspec.convert(settings[field.name], hint, strict=True)
    return kind(**values)


def _stored_pack(folder: Path, raw: bytes, digest: str) -> Pack:
    try:
        pack = msgspec.json.decode(raw, type=Pack)
    except msgspec.MsgspecError as error:
        raise ArtefactError(f"{folder}/pack.json: {error}", help="train again") from None
    if pack.digest != digest:
        raise ArtefactError(f"{folder}/pack.json is not the pack it was made for", help="fetch the artefact again")
    return pack


def _probe(folder: Path, snapshot: Snapshot) -> None:
    """Asks every moment's policy for one distribution, so that a wrong shape is found before it serves."""
    for name, plan in snapshot.plans.items():
        mask = np.ones((1, len(plan.action_ids)), dtype=np.bool_)
        contexts = plan.encoder.encode(np.full((1, len(plan.encoder.fields)), np.nan))
        try:
            distribution = snapshot.policies[name].distribution(contexts, mask)
            sound = distribution.shape == mask.shape and abs(distribution.sum() - 1.0) < 1e-9
        except (ValueError, IndexError, FloatingPointError):
            sound = False
        if not sound:
            raise ArtefactError(f"{folder}: the policy of moment {name!r} does not fit its pack", help="train again")


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ArtefactError(f"{path} has {size} bytes", help=f"at most {MAX_BYTES} are read")
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot read {path}: {error.strerror}", help="train, or fetch the artefact again"
        ) from None
