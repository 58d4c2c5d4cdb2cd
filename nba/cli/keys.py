"""`nba keys`: who may ask the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from nba.cli.output import AsJson, err, out, print_json, table
from nba.home import Home

if TYPE_CHECKING:
    from serving.keys import Key, Minted, Role

app = typer.Typer(help="Keys: who may ask the server, and for what.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Letters, digits, dot, dash, underscore: it stands in metrics and messages.")]
File = Annotated[Path | None, typer.Option("--file", envvar="NBA_KEYS", help="By default keys.json in NBA_HOME.")]
Days = Annotated[float | None, typer.Option("--expires", min=0.001, help="Days until it ends by itself.")]


@app.command()
def add(
    name: Name,
    role: Annotated[list[str], typer.Option("--role", help="decide, reward or admin; repeatable.")],
    pack: Annotated[
        list[str] | None, typer.Option("--pack", "-p", help="Repeatable; all packs where left out.")
    ] = None,
    expires: Days = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second in each replica; no limit where left out.")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once; those of a second where left out.")] = None,
    file: File = None,
) -> None:
    """Make a key and print its token, once: only the token's hash is kept.

    A running server that has keys knows it within a second, and so does one without: it asks for keys from then on.
    """
    from serving.keys import KeysError, changing, mint

    now = datetime.now(UTC)
    minted = mint(
        name,
        _roles(role),
        packs=tuple(pack) if pack else None,
        expires=None if expires is None else now + timedelta(days=expires),
        rate=rate,
        burst=burst,
        now=now,
    )
    with changing(_path(file)) as keys:
        if any(key.name == name for key in keys):
            raise KeysError(f"there is a key {name!r}", help="nba keys rotate gives it a new token")
        keys.append(minted.key)
    _show(minted)


@app.command(name="list")
def list_(file: File = None, as_json: AsJson = False) -> None:
    """The keys there are. Tokens are kept nowhere."""
    from serving.keys import read_keys

    path = _path(file)
    keys = read_keys(path).keys
    if as_json:
        print_json([{name: getattr(key, name) for name in key.__struct_fields__ if name != "sha256"} for key in keys])
        return
    now = datetime.now(UTC)
    rows = [
        [
            key.name,
            key.id,
            ", ".join(key.roles),
            "all" if key.packs is None else ", ".join(key.packs),
            "none" if key.rate is None else f"{key.rate:g}/s",
            f"{key.created:%Y-%m-%d}",
            "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}",
            "yes" if key.works(now) else "no",
        ]
        for key in keys
    ]
    table(f"{len(keys)} keys in {path}", ["name", "id", "roles", "packs", "limit", "made", "ends", "works"], rows)


@app.command()
def revoke(name: Name, file: File = None) -> None:
    """Take a key away, with all its tokens. Servers know it within a second."""
    from serving.keys import changing

    with changing(_path(file)) as keys:
        mine = _named(keys, name)
        keys[:] = [key for key in keys if key not in mine]
    out.print(f"revoked {name}: {len(mine)} tokens")


@app.command()
def rotate(
    name: Name,
    grace: Annotated[float, typer.Option(min=0.0, help="Hours that the old token goes on working.")] = 24.0,
    expires: Days = None,
    file: File = None,
) -> None:
    """Give a key a new token; the old one goes on working for a while."""
    from serving.keys import changing, mint

    now = datetime.now(UTC)
    ends = now + timedelta(hours=grace)
    with changing(_path(file)) as keys:
        newest = max(_named(keys, name), key=lambda key: key.created)
        minted = mint(
            name,
            newest.roles,
            packs=newest.packs,
            expires=newest.expires if expires is None else now + timedelta(days=expires),
            rate=newest.rate,
            burst=newest.burst,
            now=now,
        )
        kept = [_ending(key, ends) if key.name == name else key for key in keys if key.name != name or key.works(now)]
        keys[:] = [*kept, minted.key]
    _show(minted)
    err.print(f"the old token works until {ends:%Y-%m-%d %H:%M} UTC")


def _ending(key: Key, ends: datetime) -> Key:
    return replace(key, expires=ends if key.expires is None else min(key.expires, ends))


def _named(keys: list[Key], name: str) -> list[Key]:
    from serving.keys import KeysError

    found = [key for key in keys if key.name == name]
    if not found:
        there = ", ".join(sorted({key.name for key in keys}))
        raise KeysError(f"no key {name!r}", help=f"there are {there or 'none in this file: see --file and NBA_HOME'}")
    return found


def _roles(named: list[str]) -> tuple[Role, ...]:
    from serving.keys import ROLES, KeysError

    unknown = [name for name in named if name not in ROLES]
    if unknown:
        raise KeysError(f"no role {unknown[0]!r}", help=f"roles are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in named)


def _path(file: Path | None) -> Path:
    return Home.from_environment().path / "keys.json" if file is None else file.expanduser()


def _show(minted: Minted) -> None:
    """The token alone on standard output, so that it can be piped to where secrets are kept."""
    err.print(f"key {minted.key.name}, {', '.join(minted.key.roles)}; its token, shown this once:")
    typer.echo(minted.token)
