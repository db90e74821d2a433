"""Reads a file that somebody else wrote: of a size that is meant for us, and UTF-8."""

from __future__ import annotations

from pathlib import Path

from plcsim.errors import ConfigError

MAX_FILE_BYTES = 8 * 1024 * 1024


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark. Raises ConfigError."""
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"cannot be read: {exc.strerror}", source=source) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"the file is larger than {MAX_FILE_BYTES:,} bytes", source=source)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"is not UTF-8 text (byte {exc.start})", source=source) from None
