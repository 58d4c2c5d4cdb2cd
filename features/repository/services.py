"""One feature service a pack version: the features that its decisions may read, never edited after release."""

from __future__ import annotations

from feast import FeatureService, FeatureView

from features.repository.entities import customer
from features.repository.views import (
    customer_device,
    customer_history,
    customer_location,
    customer_taste,
    customer_time,
    customer_value,
)
from nba.errors import PackError
from nba.pack import Pack

__all__ = ["VIEWS", "customer", "feature_service", "service_name"]

VIEWS = (customer_device, customer_location, customer_time, customer_history, customer_value, customer_taste)


def service_name(pack: Pack) -> str:
    """Name of the pack version's feature service."""
    return f"{pack.pack}_v{pack.version}"


def feature_service(pack: Pack) -> FeatureService | None:
    """The features that the pack's fields name, view by view; None where they name none.

    Raises PackError for a view or feature that the repository does not define.
    """
    views = {view.name: view for view in VIEWS}
    wanted: dict[str, list[str]] = {}
    for field_name, field in pack.fields.items():
        if field.feature is not None:
            view_name, feature = field.feature.split(":")
            _must_exist(pack, field_name, view_name, feature, views)
            wanted.setdefault(view_name, []).append(feature)
    if not wanted:
        return None
    return FeatureService(
        name=service_name(pack),
        features=[views[name][list(dict.fromkeys(features))] for name, features in wanted.items()],
        description=f"What pack {pack.pack}, version {pack.version}, may read.",
        tags={"pack": pack.pack, "version": str(pack.version)},
    )


def _must_exist(pack: Pack, field: str, view: str, feature: str, views: dict[str, FeatureView]) -> None:
    where = f"fields.{field}.feature"
    if view not in views:
        raise PackError(
            f"pack {pack.pack!r}: {where}: there is no feature view {view!r}",
            help=f"known are {', '.join(views)}; a new one goes into features/repository/views.py",
            field=where,
        )
    known = [column.name for column in views[view].features]
    if feature not in known:
        raise PackError(
            f"pack {pack.pack!r}: {where}: view {view!r} has no feature {feature!r}",
            help=f"it has {', '.join(known)}; a new one goes into features/repository/views.py",
            field=where,
        )
