"""The option by which a command names a control socket."""

from __future__ import annotations

from pathlib import Path

import click

control_option = click.option(
    "--control",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The control socket.  [default: one of its own in your runtime folder]",
)
