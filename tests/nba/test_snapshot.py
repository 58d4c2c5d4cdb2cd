from __future__ import annotations

from collections.abc import Callable

import pytest

from nba import encoder
from nba.decision import PolicyRef
from nba.errors import ArtefactError
from nba.pack import Pack
from nba.pack_file import parse_pack
from nba.policies import Uniform
from nba.snapshot import Snapshot


def ref(digest: str = "a", version: str = "1") -> PolicyRef:
    return PolicyRef(name="shop", version=version, kind="uniform", digest=digest)


def test_a_snapshot_has_a_plan_for_every_moment(shop: Pack) -> None:
    snapshot = Snapshot.of(shop, ref(), {"basket": Uniform()})
    assert snapshot.plans["basket"].action_ids == shop.moment("basket").action_ids


def test_a_moment_without_a_policy_is_refused(shop: Pack) -> None:
    with pytest.raises(ArtefactError, match="knows nothing of moment 'basket'"):
        Snapshot.of(shop, ref(), {})


def test_the_bundle_names_policy_pack_and_encoder(shop: Pack, shop_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dearer = parse_pack(shop_text.replace("cost: 0.2", "cost: 0.3").encode(), source="x")
    bundles = [
        Snapshot.of(pack, ref(digest), {"basket": Uniform()}).bundle_id
        for pack, digest in ((shop, "a"), (shop, "b"), (dearer, "a"))
    ]
    monkeypatch.setattr(encoder, "VERSION", encoder.VERSION + 1)
    bundles.append(Snapshot.of(shop, ref("a"), {"basket": Uniform()}).bundle_id)
    assert len(set(bundles)) == 4


def test_wording_and_the_name_of_a_version_leave_the_bundle_as_it_is(shop: Pack, shop_text: str) -> None:
    reworded = parse_pack(shop_text.replace("en: Hi", "en: Hello").encode(), source="x")
    one = Snapshot.of(shop, ref(version="1"), {"basket": Uniform()})
    other = Snapshot.of(reworded, ref(version="2"), {"basket": Uniform()})
    assert one.bundle_id == other.bundle_id


def test_a_snapshot_cannot_be_changed(shop: Pack, make_snapshot: Callable[..., Snapshot]) -> None:
    with pytest.raises(AttributeError):
        make_snapshot(shop, Uniform()).bundle_id = "x"
