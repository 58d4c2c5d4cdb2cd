"""`nba features`: the feature store."""

from __future__ import annotations

from typing import Annotated

import typer

from nba.cli.output import out, progress
from nba.home import Home

app = typer.Typer(help="The feature store: entities, views, services, seeds.", no_args_is_help=True)
Packs = Annotated[list[str], typer.Option("--pack", "-p", help="A built-in pack's name, or a YAML file; repeatable.")]


@app.command()
def apply(packs: Packs = ["support"]) -> None:  # noqa: B006  # typer copies it
    """Apply the Feast repository and a feature service for each pack; compile and check the read plans."""
    from features.planning import ensure_plan
    from features.redis_server import RedisServer
    from nba.pack_file import load_pack

    home = Home.from_environment()
    with RedisServer.start(home) as redis:
        from features.store import apply as apply_repository

        loaded = [load_pack(name) for name in packs]
        for change in apply_repository(home, loaded, redis.url):
            out.print(f"applied {change}")
        for pack in loaded:
            out.print(f"{pack.pack} version {pack.version}: plan {ensure_plan(home, pack, redis.url)}")


@app.command()
def seed(
    customers: Annotated[int, typer.Option("--customers", min=1, max=1_000_000)] = 2_000,
    pack_name: Annotated[str, typer.Option("--pack", "-p", help="Whose features.")] = "support",
) -> None:
    """Fill the store with simulated customers sim-000000, sim-000001, …"""
    from features.redis_server import RedisServer
    from nba.cli.prepare import seed_customers
    from nba.pack_file import load_pack

    home, pack = Home.from_environment(), load_pack(pack_name)
    with RedisServer.start(home) as redis, progress("seeding customers", customers) as done:
        seed_customers(home, pack, redis.url, customers, done)
    out.print(f"seeded {customers} customers")
