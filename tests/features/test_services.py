"""What packs may read: the views of the repository, and no other."""

from __future__ import annotations

import pytest

from envs.stored import STORED
from nba.pack_file import built_in_packs, load_pack

pytestmark = pytest.mark.usefixtures("feast")


def test_simulated_customers_have_every_feature_of_every_view_and_no_other() -> None:
    from features.repository.services import VIEWS

    assert {f"{view.name}:{column.name}" for view in VIEWS for column in view.features} == set(STORED)


@pytest.mark.parametrize("name", built_in_packs())
def test_the_service_of_a_built_in_pack_has_its_stored_fields(name: str) -> None:
    from features.repository.services import feature_service

    pack, service = load_pack(name), feature_service(load_pack(name))
    assert service is not None
    views = service.feature_view_projections
    assert {f"{view.name}:{column.name}" for view in views for column in view.features} == {
        field.feature for field in pack.fields.values() if field.feature is not None
    }


def test_the_command_line_sees_the_views_that_packs_are_checked_against() -> None:
    from features.repository import definitions
    from features.repository.services import VIEWS

    assert {view.name for view in VIEWS} <= set(definitions.__all__)
