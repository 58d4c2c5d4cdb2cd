"""What Feast's own command line finds: it takes every Feast object among this module's names.

`feast apply` deletes from the registry what it does not find here: NBA_PACKS must then name every pack version that
still serves. The in-process `features.store.apply` uses the same objects and never deletes.
"""

from __future__ import annotations

import os

from features.repository.entities import customer
from features.repository.services import feature_service
from features.repository.views import (
    customer_device,
    customer_history,
    customer_history_push,
    customer_location,
    customer_taste,
    customer_time,
    customer_value,
)
from nba.pack_file import built_in_packs, load_pack

__all__ = [
    "customer",
    "customer_device",
    "customer_history",
    "customer_history_push",
    "customer_location",
    "customer_taste",
    "customer_time",
    "customer_value",
]

for _name in filter(None, os.environ.get("NBA_PACKS", "").split(os.pathsep)) or built_in_packs():
    _service = feature_service(load_pack(_name))
    if _service is not None:
        globals()[_service.name] = _service
