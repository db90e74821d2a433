"""What a client may do: everything on a plain port, what its role allows on a secure one."""

from __future__ import annotations

from asyncio import BaseTransport
from collections.abc import Callable

from plcsim.limits import FunctionCode
from plcsim.server_config import Right

RightOf = Callable[[BaseTransport], Right | None]
"""Tells the right of the client at the other end of a connection; None is no right at all."""

_WRITES = frozenset(
    {
        FunctionCode.WRITE_SINGLE_COIL,
        FunctionCode.WRITE_SINGLE_REGISTER,
        FunctionCode.WRITE_MULTIPLE_COILS,
        FunctionCode.WRITE_MULTIPLE_REGISTERS,
        FunctionCode.WRITE_FILE_RECORD,
        FunctionCode.MASK_WRITE_REGISTER,
        FunctionCode.READ_WRITE_MULTIPLE_REGISTERS,
        FunctionCode.DIAGNOSTICS,  # it can clear counters
    }
)


def permits(right: Right | None, function_code: int) -> bool:
    """Whether a client with this right may use a function."""
    return right is Right.READ_WRITE or (right is Right.READ and function_code not in _WRITES)


def everything(_: BaseTransport) -> Right | None:
    """The right of a client on a plain TCP port, where nobody shows who he is."""
    return Right.READ_WRITE
