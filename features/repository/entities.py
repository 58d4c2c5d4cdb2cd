"""Who features are about."""

from __future__ import annotations

from feast import Entity, ValueType

customer = Entity(
    name="customer",
    join_keys=["subject_id"],
    value_type=ValueType.STRING,
    description="The person a decision is made for, by the id that the app sends.",
)
