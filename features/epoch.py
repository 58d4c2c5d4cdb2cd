"""Whether Redis holds what the log says: one that was emptied, restarted or replaced does not, until it is refilled.

The epoch key holds "epoch:run_id". It is written once a refill from the log is complete (`serving.claims`), with the
run_id of the server process that was refilled. So Redis is whole while the key names the very process that is asked.
"""

from __future__ import annotations

import re

PREFIX = "nba:"  # of every key that is not Feast's
EPOCH_KEY = f"{PREFIX}epoch".encode()

# for scripts that ask before anything else: whether the process of this run_id is whole, by its epoch key
WHOLE = """
local function whole(key, run_id)
  return string.match(redis.call('GET', key) or '', '^%d+:(.+)$') == run_id
end
"""


def run_id(described: object) -> bytes:
    """The id of the server process that describes itself so (INFO); empty where it does not tell."""
    found = re.search(rb"^run_id:(\w+)", described, re.MULTILINE) if isinstance(described, bytes) else None
    return found[1] if found else b""
