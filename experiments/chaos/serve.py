"""A real server in this process: Ray Serve and its ingress, as `nba serve` starts it.

    python experiments/chaos/serve.py '{"home": ..., "packs": [...], ...}'

Says `ready URL` and then obeys lines: `redeploy` deploys the application anew, a replica at a time; the end of the
input stops it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from serving.launch import start
from serving.settings import Settings


def main() -> None:
    """Serves until its input ends."""
    settings = Settings.from_environment(json.loads(sys.argv[1]))
    running = start(settings)
    print(f"ready {running.url}", flush=True)
    for n, _ in enumerate(sys.stdin, 1):
        from ray import serve

        from serving.app import NAME, build

        serve.run(build(replace(settings, rebuild_poll_s=1.0 + n / 100)), name=NAME, route_prefix="/")
        print("deployed", flush=True)
    running.stop()


if __name__ == "__main__":
    main()
