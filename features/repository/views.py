"""What is known of a customer, by how it comes to be known and how long it holds.

A view's TTL is the longest any of its features may be used; a pack's `max_age` can only shorten it. No on-demand
views: Feast runs the text of their functions out of its registry, so whoever can write the registry could run code
in the server.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from feast import FeatureView, Field, FileSource, PushSource
from feast.data_format import ParquetFormat
from feast.types import Bool, Float64, Int64, String

from features.repository.entities import customer

OFFLINE = Path(os.environ.get("NBA_HOME", ".nba")).expanduser().resolve() / "features" / "offline"


def _parquet(name: str) -> FileSource:
    """A folder of Parquet files, so that new rows are a new file: Feast's own append rewrites the whole history."""
    return FileSource(
        name=f"{name}_batch",
        path=str(OFFLINE / name),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )


_subject_id = Field(name="subject_id", dtype=String)

customer_device = FeatureView(
    name="customer_device",
    description="The device the customer was last seen on.",
    entities=[customer],
    ttl=timedelta(days=90),
    schema=[
        _subject_id,
        Field(name="device_type", dtype=String, description="mobile, desktop or tablet"),
        Field(name="push_enabled", dtype=Bool, description="the app may send notifications"),
    ],
    source=_parquet("customer_device"),
    tags={"domain": "device", "cadence": "daily"},
)

customer_location = FeatureView(
    name="customer_location",
    description="Where the customer lives, no finer than the country.",
    entities=[customer],
    ttl=timedelta(days=365),
    schema=[_subject_id, Field(name="country", dtype=String, description="ISO 3166-1 alpha-2")],
    source=_parquet("customer_location"),
    tags={"domain": "location", "cadence": "monthly"},
)

customer_time = FeatureView(
    name="customer_time",
    description="When the customer is around.",
    entities=[customer],
    ttl=timedelta(days=90),
    schema=[
        _subject_id,
        Field(name="active_hour", dtype=Float64, description="usual local hour of activity, 0 to 24"),
    ],
    source=_parquet("customer_time"),
    tags={"domain": "time", "cadence": "daily"},
)

customer_history_push = PushSource(
    name="customer_history_push",
    batch_source=_parquet("customer_history"),
    description="Fresh histories as events come in; the files behind it are what training reads.",
)

customer_history = FeatureView(
    name="customer_history",
    description="What has happened between the customer and us.",
    entities=[customer],
    ttl=timedelta(days=365),  # an NPS answer holds that long; packs give the counters a shorter max_age
    schema=[
        _subject_id,
        Field(name="purchases_90d", dtype=Int64, description="orders in the last 90 days"),
        Field(name="contacts_30d", dtype=Int64, description="service contacts in the last 30 days"),
        Field(name="open_cases", dtype=Int64, description="cases not yet resolved"),
        Field(name="nps", dtype=Float64, description="last answer to `would you recommend us`, 0 to 10"),
    ],
    source=customer_history_push,
    tags={"domain": "history", "cadence": "event"},
)

customer_value = FeatureView(
    name="customer_value",
    description="What kind of buyer the customer is.",
    entities=[customer],
    ttl=timedelta(days=365),
    schema=[
        _subject_id,
        Field(name="discount_share", dtype=Float64, description="share of orders bought at a discount, 0 to 1"),
        Field(name="tenure_months", dtype=Int64, description="whole months as a customer"),
    ],
    source=_parquet("customer_value"),
    tags={"domain": "value", "cadence": "monthly"},
)

customer_taste = FeatureView(
    name="customer_taste",
    description="What the customer likes, told or inferred from orders.",
    entities=[customer],
    ttl=timedelta(days=365),
    schema=[
        _subject_id,
        Field(name="variety", dtype=Float64, description="how varied the orders are, 0 to 1"),
        Field(name="style", dtype=String, description="brief or detailed: how much to be told at once"),
    ],
    source=_parquet("customer_taste"),
    tags={"domain": "taste", "cadence": "monthly"},
)
