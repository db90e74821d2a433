"""Texts that a configuration may hold: names, and what goes over the wire as ASCII."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:/ -]{0,62}$")]
"""Of devices, parameters, groups and faults."""

NO_NAME = "is not a name (letters, digits and _ . : / - , 63 at most)"
"""What is said of a text that is no Name."""

Printable = Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]
"""Printable ASCII."""
