"""Into and out of Feast: definitions into its registry, rows into its stores, training sets out. See `feast_store`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.compiler import compile_plan
from features.feast_store import answering, open_store, repository, value_type
from features.feature_value import ValueType
from features.plan import FeatureStoreError
from nba.errors import PackError
from nba.home import Home
from nba.pack import Pack
from nba.types import Value

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureService, FeatureStore, FeatureView

__all__ = ["apply", "compile_plan", "historical", "push", "seed"]

Row = tuple[str, Mapping[str, Value]]  # subject id; "view:feature" -> value

BATCH = 10_000  # rows held in memory at once
NO_REDIS = "redis://127.0.0.1:1"  # for what only touches files: Feast wants an address, and never goes there
_ROW = "nba_row"
_TIME = pa.timestamp("us", "UTC")
_ARROW = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "bool": pa.bool_(),
}
_INTEGER_BITS = {"int32": 32, "int64": 64}


def apply(home: Home, packs: Sequence[Pack], redis_url: str) -> tuple[str, ...]:
    """Brings the registry to what the repository and these packs define; what changed, such as `view customer_time`.

    Deletes nothing, and writes nothing where nothing changed. Raises PackError where a pack asks for what the
    repository lacks, or for other features than its version was released with.
    """
    defined = repository(home)
    services = [service for service in map(defined.feature_service, packs) if service is not None]
    store = open_store(home, redis_url)
    released = {service.name: service for service in store.list_feature_services()}
    new = [service for service in services if not _is_released(service, released.get(service.name))]
    views = [view for view in defined.VIEWS if not _is_registered(store, view)]
    if views or new:
        store.apply([defined.customer, *views, *new])
    for view in defined.VIEWS:
        _make_folder(view)
    return (*(f"view {view.name}" for view in views), *(f"service {service.name}" for service in new))


def seed(home: Home, rows: Iterable[Row], redis_url: str, now: datetime) -> int:
    """Writes rows to the Parquet files and to Redis, all as of `now`; how many.

    A row replaces all features of each view that it gives a value of: one left out becomes unknown. A view that it
    gives no value of stays as it was. Redis drops rows that are not newer than what it has.
    Raises FeatureStoreError for a feature that is not in the registry or a value that is not of its type,
    UnavailableError where Redis does not answer.
    """
    store = open_store(home, redis_url)
    views = {view.name: view for view in store.list_feature_views()}
    written = 0
    for batch in _batches(rows):
        for name, table in _tables(views, batch, now).items():
            _append(views[name], table)
            with answering():
                store.write_to_online_store(name, _as_pandas(table))
        written += len(batch)
    return written


def push(
    home: Home, rows: Iterable[Row], redis_url: str, now: datetime, *, source: str = "customer_history_push"
) -> int:
    """Pushes fresh rows through a push source into Redis, as of `now`; how many. As `seed`, without the files.

    Raises FeatureStoreError as `seed` does, also for a feature of a view that the source does not feed.
    """
    store = open_store(home, redis_url)
    fed = {v.name: v for v in store.list_feature_views() if v.stream_source and v.stream_source.name == source}
    if not fed:
        raise FeatureStoreError(f"there is no push source {source!r}", help="see features/repository/views.py")
    pushed = 0
    for batch in _batches(rows):
        for table in _tables(fed, batch, now).values():
            with answering():
                store.push(source, _as_pandas(table))
        pushed += len(batch)
    return pushed


def historical(home: Home, entities: pd.DataFrame, service: str) -> pd.DataFrame:
    """The features of a service as they were known at each row's `event_timestamp`: a training set.

    `entities` has `subject_id`, `event_timestamp` and any columns to carry along. The result has its rows, in its
    order, and a column `view__feature` for each feature, missing where the view's TTL had passed. Rows that were
    written later than the event they are asked for (a late backfill) are not used: they were not known then.
    Raises FeatureStoreError for an unknown service, and where Feast gives back another number of rows.
    """
    store = open_store(home, NO_REDIS)
    known = {known.name: known for known in store.list_feature_services()}
    if service not in known:
        raise FeatureStoreError(f"there is no feature service {service!r}", help=f"known are {', '.join(known)}")
    numbered = entities.assign(**{_ROW: range(len(entities))})
    found = store.get_historical_features(
        numbered, known[service], full_feature_names=True, filter_by_created_timestamp=True
    ).to_df()
    if len(found) != len(entities):
        raise FeatureStoreError(
            f"{len(entities)} rows went in, {len(found)} came out", help="check offline_store in feature_store.yaml"
        )
    return found.sort_values(_ROW, ignore_index=True).drop(columns=_ROW)


def _is_released(service: FeatureService, released: FeatureService | None) -> bool:
    """True where the service is in the registry as it is. Raises PackError where it is there with other features."""
    if released is None:
        return False
    before, now = _features(released), _features(service)
    if before != now:
        pack, version = service.tags["pack"], service.tags["version"]
        raise PackError(
            f"pack {pack!r}, version {version}, was released with other features: "
            f"gone {sorted(before - now)}, new {sorted(now - before)}",
            help="what a released version reads never changes: raise the pack's version",
            field="version",
        )
    return True


def _features(service: FeatureService) -> set[str]:
    return {f"{view.name}:{column.name}" for view in service.feature_view_projections for column in view.features}


def _is_registered(store: FeatureStore, view: FeatureView) -> bool:
    known = {registered.name: registered for registered in store.list_feature_views()}.get(view.name)
    return known is not None and _definition(known) == _definition(view)


def _definition(view: FeatureView) -> Any:
    """What a view is by its author, without what the registry adds to it."""
    spec = view.to_proto().spec
    spec.project = ""
    for source in (spec.batch_source, spec.stream_source, spec.stream_source.batch_source):
        source.ClearField("meta")
        source.project = ""
    return spec


def _folder(view: FeatureView) -> Path:
    source: Any = view.batch_source  # a FileSource: the repository has no other
    return Path(source.path)


def _make_folder(view: FeatureView) -> None:
    """The view's folder with an empty file in it, so that it can be read before anything is known."""
    if not _folder(view).exists():
        _append(view, pa.Table.from_pylist([], _schema(view)))


def _schema(view: FeatureView) -> pa.Schema:
    features = [(column.name, _ARROW[value_type(column)]) for column in view.features]
    return pa.schema([("subject_id", pa.string()), *features, ("event_timestamp", _TIME), ("created", _TIME)])


def _append(view: FeatureView, table: pa.Table) -> None:
    """Adds a file to the view's folder, where it appears whole."""
    folder, name = _folder(view), f"{uuid.uuid4().hex}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    building = folder.parent / f"{name}.building"
    pq.write_table(table, building)
    building.rename(folder / name)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def _tables(views: Mapping[str, FeatureView], rows: Sequence[Row], now: datetime) -> dict[str, pa.Table]:
    """The rows by view, each with its subjects that have a value in it; absent values as null."""
    types = {f"{view.name}:{column.name}": value_type(column) for view in views.values() for column in view.features}
    split: dict[str, dict[str, dict[str, Any]]] = {}  # view -> subject -> row
    for subject_id, values in rows:
        for name, value in values.items():
            cell = _cell(name, value, types)
            if cell is not None:
                view, feature = name.split(":")
                row = {"subject_id": subject_id, "event_timestamp": now, "created": now}
                split.setdefault(view, {}).setdefault(subject_id, row)[feature] = cell
    return {view: pa.Table.from_pylist(list(mine.values()), _schema(views[view])) for view, mine in split.items()}


def _cell(name: str, value: Value, types: Mapping[str, ValueType]) -> Value:
    """The value as the feature's type has it; None for none and for NaN. Raises FeatureStoreError."""
    if name not in types:
        raise FeatureStoreError(f"there is no feature {name!r} here", help=f"there is {', '.join(types)}")
    kind = types[name]
    if value is None or value != value:
        return None
    if isinstance(value, str) and kind == "string":
        return value
    if isinstance(value, bool):
        if kind == "bool":
            return value
    elif isinstance(value, int | float):
        bits = _INTEGER_BITS.get(kind)
        if bits is not None and value == value // 1 and abs(value) < 2 ** (bits - 1):
            return int(value)
        if kind in ("double", "float") and abs(value) != float("inf"):
            return float(value)
    raise FeatureStoreError(f"{name} cannot be {value!r}: it is of type {kind}", help="send that type, or leave it out")


def _as_pandas(table: pa.Table) -> pd.DataFrame:
    """The table with Arrow's own types: pandas' would turn an integer column with a null into floats."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame
