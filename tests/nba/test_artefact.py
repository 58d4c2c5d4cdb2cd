from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load, save

from nba import artefact, encoder
from nba.artefact import load_artefact, save_artefact
from nba.decision import PolicyRef
from nba.errors import ArtefactError
from nba.moment_plan import plan_moment
from nba.pack import Pack
from nba.pack_file import parse_pack
from nba.policies import EpsilonGreedy, Rules, SquareCB, Uniform
from nba.rounds import LoggedRounds

FILES = ("pack.json", "policy.json", "weights.safetensors")


@pytest.fixture
def policy(shop: Pack, make_rounds: Callable[..., LoggedRounds]) -> SquareCB:
    plan = plan_moment(shop, "basket")
    return SquareCB.fit(plan, make_rounds(plan, 100))


@pytest.fixture
def saved(tmp_path: Path, shop: Pack, policy: SquareCB) -> Path:
    save_artefact(tmp_path / "saved", shop, "square_cb", {"basket": policy})
    return tmp_path / "saved"


def refusal(folder: Path, pack: Pack | None = None) -> str:
    with pytest.raises(ArtefactError) as caught:
        load_artefact(folder, pack=pack)
    assert caught.value.help
    return caught.value.message


def rewrite(folder: Path, change: Callable[[Any], None]) -> None:
    """Changes policy.json as someone would who may write it."""
    manifest = msgspec.json.decode((folder / "policy.json").read_bytes())
    change(manifest)
    (folder / "policy.json").write_bytes(msgspec.json.encode(manifest))


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Another content, with its hash put into policy.json."""
    (folder / name).write_bytes(content)
    rewrite(folder, lambda manifest: manifest["sha256"].update({name: hashlib.sha256(content).hexdigest()}))


def replace_arrays(folder: Path, **changes: np.ndarray | None) -> None:
    arrays = load((folder / "weights.safetensors").read_bytes())
    for name, array in changes.items():
        key = f"basket/model/{name}"
        if array is None:
            del arrays[key]
        else:
            arrays[key] = array
    replace_file(folder, "weights.safetensors", save(arrays))


# There and back.


def test_a_policy_comes_back_with_every_bit(saved: Path, shop: Pack, policy: SquareCB) -> None:
    found = load_artefact(saved, pack=shop).policies["basket"]
    assert isinstance(found, SquareCB)
    assert (found.reward_span, found.scale, found.floor) == (policy.reward_span, policy.scale, policy.floor)
    assert found.model.rounds == policy.model.rounds == 100
    for name in ("gram", "target", "weights"):
        one, other = getattr(found.model, name), getattr(policy.model, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_the_digest_is_the_hash_of_policy_json(tmp_path: Path, shop: Pack, policy: SquareCB) -> None:
    digest = save_artefact(tmp_path / "a", shop, "square_cb", {"basket": policy})
    assert digest == hashlib.sha256((tmp_path / "a" / "policy.json").read_bytes()).hexdigest()


def test_the_same_policy_has_the_same_digest_and_another_another(tmp_path: Path, shop: Pack, policy: SquareCB) -> None:
    bolder = dataclasses.replace(policy, floor=0.03)
    one, same, other = (
        save_artefact(tmp_path / str(i), shop, "square_cb", {"basket": p})
        for i, p in enumerate((policy, policy, bolder))
    )
    assert one == same != other


def test_a_loaded_policy_may_be_saved_again_unchanged(saved: Path, shop: Pack) -> None:
    snapshot = load_artefact(saved)
    again = save_artefact(saved.with_name("again"), snapshot.pack, "square_cb", snapshot.policies)
    assert again == snapshot.policy.digest


def test_name_version_and_arm_are_what_the_caller_says(saved: Path) -> None:
    digest = hashlib.sha256((saved / "policy.json").read_bytes()).hexdigest()
    found = load_artefact(saved, name="mine", version="17", arm="challenger").policy
    assert found == PolicyRef(name="mine", version="17", kind="square_cb", digest=digest, arm="challenger")
    assert load_artefact(saved).policy.name == "shop"


def test_the_pack_travels_along(saved: Path, shop: Pack) -> None:
    assert load_artefact(saved).pack == shop


def test_the_server_s_own_wording_is_used_where_only_wording_differs(saved: Path, shop_text: str) -> None:
    reworded = parse_pack(shop_text.replace("en: Hi", "en: Hello").encode(), source="x")
    assert load_artefact(saved, pack=reworded).pack is reworded


# What is not saved.


def test_an_artefact_is_never_written_over(saved: Path, shop: Pack) -> None:
    before = {name: (saved / name).read_bytes() for name in FILES}
    with pytest.raises(ArtefactError, match="exists"):
        save_artefact(saved, shop, "uniform", {"basket": Uniform()})
    assert {name: (saved / name).read_bytes() for name in FILES} == before


@pytest.mark.parametrize(
    ("kind", "moments", "what"),
    [
        ("magic", ("basket",), "unknown policy kind 'magic'"),
        ("uniform", (), r"policies for \[\], not for \['basket'\]"),
        ("uniform", ("basket", "search"), r"policies for \['basket', 'search'\]"),
    ],
)
def test_what_does_not_belong_together_is_not_saved(
    tmp_path: Path, shop: Pack, kind: str, moments: tuple[str, ...], what: str
) -> None:
    with pytest.raises(ArtefactError, match=what):
        save_artefact(tmp_path / "a", shop, kind, dict.fromkeys(moments, Uniform()))
    assert list(tmp_path.iterdir()) == []


class _Foreign(Uniform):
    """Of a type that no kind has."""


def test_a_policy_of_no_kind_is_not_saved(tmp_path: Path, shop: Pack) -> None:
    with pytest.raises(ArtefactError, match="the policy of 'basket' is a _Foreign, which is of no kind"):
        save_artefact(tmp_path / "a", shop, "uniform", {"basket": _Foreign()})
    assert list(tmp_path.iterdir()) == []


def test_a_moment_may_have_a_kind_of_its_own(tmp_path: Path, shop: Pack, policy: SquareCB) -> None:
    save_artefact(tmp_path / "a", shop, "rules", {"basket": policy})
    loaded = load_artefact(tmp_path / "a")
    assert loaded.policy.kind == "rules"
    assert type(loaded.policies["basket"]) is SquareCB


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, shop: Pack, policy: SquareCB, bad: float) -> None:
    weights = policy.model.weights.copy()
    weights[1, 2] = bad
    diverged = dataclasses.replace(policy, model=dataclasses.replace(policy.model, weights=weights))
    for broken in (diverged, dataclasses.replace(policy, reward_span=bad)):
        with pytest.raises(ArtefactError, match="is not finite"):
            save_artefact(tmp_path / "a", shop, "square_cb", {"basket": broken})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [Rules(99, np.array([1])), Rules(0, np.array([77]))])
def test_a_policy_that_does_not_fit_its_pack_is_not_saved(tmp_path: Path, shop: Pack, broken: Rules) -> None:
    with pytest.raises(ArtefactError, match="policy of moment 'basket' fails"):
        save_artefact(tmp_path / "a", shop, "rules", {"basket": broken})


def test_a_policy_without_a_distribution_is_not_saved(tmp_path: Path, shop: Pack, policy: SquareCB) -> None:
    with pytest.raises(ArtefactError, match="gives no distribution"):
        save_artefact(tmp_path / "a", shop, "square_cb", {"basket": dataclasses.replace(policy, floor=-7.0)})


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path: Path, shop: Pack, policy: SquareCB) -> None:
    numpyish = dataclasses.replace(policy, reward_span=np.float64(1.7))
    save_artefact(tmp_path / "a", shop, "square_cb", {"basket": numpyish})
    found = load_artefact(tmp_path / "a").policies["basket"]
    assert isinstance(found, SquareCB)
    assert type(found.reward_span) is float


# Crashes.


def test_a_crash_while_writing_leaves_no_folder_of_the_name(
    tmp_path: Path, shop: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes before the rename: what is left has another name, and saving works afterwards."""

    def power_cut(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", power_cut)
        with pytest.raises(KeyboardInterrupt):
            save_artefact(tmp_path / "a", shop, "uniform", {"basket": Uniform()})
    assert not (tmp_path / "a").exists()
    save_artefact(tmp_path / "a", shop, "uniform", {"basket": Uniform()})
    assert load_artefact(tmp_path / "a").policy.kind == "uniform"


def test_everything_is_on_disk_before_the_folder_gets_its_name(
    tmp_path: Path, shop: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, renamed = [], []
    sync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(len(renamed)), sync(handle))[1])
    monkeypatch.setattr(Path, "rename", lambda self, target: (renamed.append(len(synced)), rename(self, target))[1])
    save_artefact(tmp_path / "a", shop, "uniform", {"basket": Uniform()})
    assert renamed == [3]  # three files first
    assert synced == [0, 0, 0, 1]  # and the folder that holds the name after it


def test_a_disk_that_refuses_is_an_error_with_a_word(
    tmp_path: Path, shop: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match="No space left on device"):
        save_artefact(tmp_path / "a", shop, "uniform", {"basket": Uniform()})
    assert list(tmp_path.iterdir()) == []


def test_of_two_who_save_at_once_the_first_wins(tmp_path: Path, shop: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def beaten(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        save_artefact(target, shop, "uniform", {"basket": Uniform()})
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", beaten)
    with pytest.raises(ArtefactError, match="cannot write"):
        save_artefact(tmp_path / "a", shop, "rules", {"basket": Rules(10, np.array([3, 2]))})
    assert load_artefact(tmp_path / "a").policy.kind == "uniform"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# What is not loaded.


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "Not a directory" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert name in refusal(saved)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, name: str, share: float) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(len(content) * share)])
    assert name in refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_or_changes_the_digest(saved: Path, name: str) -> None:
    """policy.json is named by its own hash: a flip in it that still makes sense is another artefact, not this one."""
    digest, content = load_artefact(saved).policy.digest, (saved / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 40):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        (saved / name).write_bytes(flipped)
        try:
            assert load_artefact(saved).policy.digest != digest
            assert name == "policy.json"
        except ArtefactError:
            pass


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_is_not_followed(saved: Path, name: str) -> None:
    """Its content would do; but a folder from elsewhere must not make the server read what it names."""
    (saved / name).rename(saved.with_name("elsewhere"))
    (saved / name).symlink_to(saved.with_name("elsewhere"))
    assert name in refusal(saved)


def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_hang_the_server(saved: Path) -> None:
    (saved / "policy.json").unlink()
    os.mkfifo(saved / "policy.json")
    assert "is no plain file" in refusal(saved)
    (saved / "policy.json").unlink()
    (saved / "policy.json").mkdir()
    assert "policy.json" in refusal(saved)


def test_a_huge_file_is_refused_before_it_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (saved / "weights.safetensors").open("r+b") as file:
        file.truncate(artefact.MAX_BYTES + 1)  # sparse: takes no room
    assert "is no plain file of at most" in refusal(saved)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": 2}, "has schema 2, encoder 1"),
        ({"encoder": 9}, "has schema 1, encoder 9"),
        ({"kind": "magic"}, "unknown policy kind 'magic'"),
        ({"kind": "../../etc"}, "unknown policy kind"),
        ({"kind": "epsilon_greedy"}, "does not hold a epsilon_greedy policy"),
        ({"kind": "uniform"}, "does not hold a uniform policy"),
        ({"extra": 1}, "policy.json"),
        ({"sha256": {}}, "is not what policy.json says"),
        ({"pack_digest": "0" * 64}, "is not the pack it was made for"),
        ({"moments": {}}, "unknown arrays"),
        ({"answers": {}}, "answers otherwise than when saved"),
        ({"answers": {"basket": []}}, "answers otherwise than when saved"),
        ({"answers": {"basket": [[1.0]] * 4}}, "answers otherwise than when saved"),
        ({"answers": {"basket": [[1.0, 0.0, 0.0, 0.0]] * 4}}, "answers otherwise than when saved"),
        ({"schema": "1"}, "policy.json"),
        ({"schema": None}, "policy.json"),
    ],
)
def test_a_policy_json_that_says_something_else_is_refused(saved: Path, change: dict[str, Any], what: str) -> None:
    rewrite(saved, lambda manifest: manifest.update(change))
    assert what in refusal(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"reward_span": "wide"},
        {"reward_span": None},
        {"unknown": 1},
        {"model": 3},
        {"model": {}},
        {"model": {"rounds": 100, "weights": [[1.0]]}},
        {"model": {"rounds": 1.5}},
        {"scale": True},
    ],
)
def test_settings_of_another_shape_are_refused(saved: Path, change: dict[str, Any]) -> None:
    rewrite(saved, lambda manifest: manifest["moments"]["basket"].update(change))
    assert "does not hold a square_cb policy" in refusal(saved)


def test_a_missing_setting_is_refused(saved: Path) -> None:
    rewrite(saved, lambda manifest: manifest["moments"]["basket"].pop("scale"))
    assert "does not hold a square_cb policy: 'scale'" in refusal(saved)


@pytest.mark.parametrize("raw", [b"", b"null", b"[" * 100_000, b'{"schema":' + b"9" * 5000 + b"}", b"\xff\xfe", b"{}"])
def test_a_policy_json_that_is_none_is_refused(saved: Path, raw: bytes) -> None:
    (saved / "policy.json").write_bytes(raw)
    assert "policy.json" in refusal(saved)


WIDTH = 12  # context columns of the shop's moment


@pytest.mark.parametrize(
    ("name", "array", "what"),
    [
        ("weights", None, "'basket/model/weights'"),
        ("weights", np.zeros((4, WIDTH), dtype=np.float32), "is float32, not float64"),
        ("weights", np.full((4, WIDTH), np.nan), "is not finite"),
        ("weights", np.zeros((4, WIDTH + 1)), "fails"),
        ("weights", np.zeros((3, WIDTH)), "fails"),
        ("weights", np.zeros(4 * WIDTH), "fails"),
        ("weights", np.zeros((0, 0)), "fails"),
        ("weights", np.zeros((4, WIDTH)), "answers otherwise than when saved"),
        ("other", np.zeros(3), "unknown arrays ['basket/model/other']"),
    ],
)
def test_arrays_of_another_shape_type_or_name_are_refused(
    saved: Path, name: str, array: np.ndarray | None, what: str
) -> None:
    replace_arrays(saved, **{name: array})
    assert what in refusal(saved)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      ", save({}) + b"more"])
def test_weights_that_are_no_safetensors_are_refused(saved: Path, content: bytes) -> None:
    replace_file(saved, "weights.safetensors", content)
    assert "does not hold a square_cb policy" in refusal(saved)


def test_a_pickle_is_not_opened(saved: Path, tmp_path: Path) -> None:
    """A pickle that would make a file if it were loaded."""
    bomb = b"cposix\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    replace_file(saved, "weights.safetensors", bomb)
    refusal(saved)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"remind"', b'"remnid"'),
        (b'"mood < 0.5"', b'"mood <"'),
        (b'"pack":"shop"', b'"pack":"../shop"'),
        (b'"version":1,', b'"version":1,"surprise":2,'),
        (b"{", b"["),
    ],
)
def test_a_stored_pack_that_is_not_sound_is_refused_even_with_its_digest_in_place(
    saved: Path, old: bytes, new: bytes
) -> None:
    content = (saved / "pack.json").read_bytes()
    assert old in content
    replace_file(saved, "pack.json", content.replace(old, new, 1))
    with suppress(msgspec.MsgspecError):
        digest = msgspec.json.decode((saved / "pack.json").read_bytes(), type=Pack).digest
        rewrite(saved, lambda manifest: manifest.update(pack_digest=digest))
    assert "pack.json:" in refusal(saved)


def test_another_pack_than_it_was_made_for_is_refused_with_both_versions(saved: Path, shop_text: str) -> None:
    changed = shop_text.replace("version: 1\nrew", "version: 2\nrew").replace("cost: 0.2", "cost: 0.3")
    message = refusal(saved, parse_pack(changed.encode(), source="x"))
    assert "was made for another 'shop' pack (version 1, not 2)" in message


def test_an_artefact_of_another_encoding_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "VERSION", encoder.VERSION + 1)
    assert "has schema 1, encoder 1" in refusal(saved)


def test_a_policy_that_would_answer_otherwise_on_this_machine_is_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same files, but the code that reads them explores more."""
    monkeypatch.setattr(SquareCB, "distribution", lambda self, contexts, mask: Uniform().distribution(contexts, mask))
    assert "answers otherwise than when saved" in refusal(saved)


def test_a_copied_folder_loads_like_the_first(saved: Path) -> None:
    shutil.copytree(saved, saved.with_name("copy"))
    assert load_artefact(saved.with_name("copy")).bundle_id == load_artefact(saved).bundle_id


def test_a_policy_of_a_thousand_actions_is_saved_and_loaded(
    tmp_path: Path, shop_text: str, make_rounds: Callable[..., LoggedRounds]
) -> None:
    """All sums included it takes a few megabytes, and seconds at most."""
    names = [f"a{i}" for i in range(999)]
    actions = "".join(f"  {name}: {{layer: cognitive, channel: chat, trigger: always}}\n" for name in names)
    text = shop_text.replace("[greet, remind, offer]", f"[{', '.join(['greet', 'remind', 'offer', *names])}]")
    pack = parse_pack(text.replace("guardrails:", actions + "guardrails:").encode(), source="x")
    plan = plan_moment(pack, "basket")
    policy = EpsilonGreedy.fit(plan, make_rounds(plan, 2_000))
    save_artefact(tmp_path / "a", pack, "epsilon_greedy", {"basket": policy})
    assert len(load_artefact(tmp_path / "a", pack=pack).plans["basket"].action_ids) == 1_003
    assert (tmp_path / "a" / "weights.safetensors").stat().st_size < 4_000_000
