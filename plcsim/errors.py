"""What can go wrong, as one tree: every message is one line, every error knows its exit code.

PlcsimError                  exit 1: something around us failed
├── InputError               exit 2: what the user gave cannot be used
│   └── ConfigError          … in a YAML file: names file, line, key, value and what would be right
└── ListenError              the server's address cannot be bound
"""

from __future__ import annotations


class PlcsimError(Exception):
    """Base of all errors that a command reports as one line."""

    exit_code = 1


class InputError(PlcsimError):
    """What the user gave (an option, a file, a URL) cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration is wrong; the message says where and what would be right."""

    def __init__(
        self, problem: str, *, source: str = "configuration", line: int | None = None, key: str = ""
    ) -> None:
        where = source if line is None else f"{source}:{line}"
        message = f"{where}: {key}: {problem}" if key else f"{where}: {problem}"
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class ListenError(PlcsimError):
    """The server cannot listen at the address it was given."""
