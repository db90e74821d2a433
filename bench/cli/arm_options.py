"""The options `--a` and `--b`: arms by their specs, checked before anything runs."""

from __future__ import annotations

import click

from bench.arms.spec import parse_arm


def _arm(context: click.Context, parameter: click.Parameter, text: str) -> str:
    return parse_arm(text).text


arm_a_option = click.option(
    "--a", metavar="ARM", default="baseline", show_default=True, callback=_arm, help="Arm A: see above."
)
arm_b_option = click.option(
    "--b", metavar="ARM", default="synchronizing", show_default=True, callback=_arm, help="Arm B: see above."
)
