"""Imports the class that an arm's spec names: MODULE:CLASS."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from plcsim.errors import InputError


def load_class(name: str) -> type[Any]:
    """The class that `module:Class` names; a module of the current folder is found too.

    Raises InputError if there is no such module or class, or it does not store.
    """
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        raise InputError(f"arm {name!r}: module {module_name!r} cannot be imported: {exc}") from None
    except Exception as exc:  # noqa: BLE001 - whatever somebody's module raises while it is imported
        raise InputError(
            f"arm {name!r}: importing {module_name!r} raised {type(exc).__name__}: {exc}"
        ) from None
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise InputError(
            f"arm {name!r}: module {module_name!r} has no class {class_name!r}; it has "
            f"{', '.join(sorted(classes)) or 'none'}"
        )
    if not callable(getattr(found, "store", None) or getattr(found, "store_together", None)):
        raise InputError(
            f"arm {name!r}: class {class_name} has no method store(batch); see bench/arms/protocol.py"
        )
    return found
