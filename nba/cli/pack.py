"""`nba pack`: checking and starting packs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nba.cli.output import AsJson, out, print_json, table
from nba.errors import PackError

app = typer.Typer(help="Packs: moments, actions, guardrails, outcomes.", no_args_is_help=True)


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A YAML file, or a built-in pack's name.")], as_json: AsJson = False
) -> None:
    """Check a pack; errors name the file, the line, the field and the way out."""
    from nba.pack_file import load_pack

    pack = load_pack(file)
    if as_json:
        print_json({"pack": pack.pack, "version": pack.version, "digest": pack.digest, "moments": list(pack.moments)})
        return
    rows = []
    for name, moment in pack.moments.items():
        low, high = pack.reward_range(name)
        rows.append(
            [
                name,
                str(len(moment.action_ids)),
                str(len(moment.fields)),
                str(len(moment.rules)),
                moment.window,
                f"{low:g} to {high:g}",
            ]
        )
    table(
        f"{pack.pack} version {pack.version}: sound (digest {pack.digest[:12]})",
        ["moment", "actions", "fields", "rules", "window", "reward"],
        rows,
    )


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower case letters, digits and underscores.")],
    folder: Annotated[Path, typer.Option("--in", help="Where to put NAME.yaml.")] = Path(),
) -> None:
    """Write a commented skeleton to NAME.yaml."""
    from nba.pack_file import parse_pack
    from nba.pack_skeleton import skeleton

    path = folder / f"{name}.yaml"
    text = skeleton(name)
    parse_pack(text.encode(), source=str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise PackError(f"{path} exists", help="choose another name, or edit that file") from None
    out.print(f"wrote {path}; next: nba pack check {path}")
