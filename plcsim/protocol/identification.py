"""Functions 43/14 and 17: what a device says about itself.

Source: MODBUS Application Protocol Specification V1.1b3, sections 6.21 and 6.13.
"""

from __future__ import annotations

from collections.abc import Sequence

from plcsim.limits import MAX_PDU_BYTES, ExceptionCode
from plcsim.memory import Memory
from plcsim.protocol.pdu import Request
from plcsim.protocol.requests import Handler, RequestRefused, wrong_unless
from plcsim.server_config import IdentificationSpec, ServerIdSpec

_MEI_DEVICE_IDENTIFICATION = 0x0E
_BASIC, _REGULAR, _EXTENDED, _SPECIFIC = 1, 2, 3, 4
_LAST_OF = {_BASIC: 0x02, _REGULAR: 0x7F, _EXTENDED: 0xFF}
_INDIVIDUAL_ACCESS = 0x80
_HEADER_BYTES = 7
_MORE_FOLLOWS = 0xFF


def read_device_identification(spec: IdentificationSpec) -> Handler:
    """Handler of function 43 with MEI type 14; any other MEI type is exception 01."""
    objects = _objects(spec)
    conformity = _INDIVIDUAL_ACCESS | _highest_category(objects)

    def handle(_: Memory, request: Request) -> bytes:
        pdu = request.pdu
        wrong_unless(len(pdu) >= 2)
        if pdu[1] != _MEI_DEVICE_IDENTIFICATION:
            raise RequestRefused(ExceptionCode.ILLEGAL_FUNCTION)
        wrong_unless(len(pdu) == 4 and _BASIC <= pdu[2] <= _SPECIFIC)
        code, first = pdu[2], pdu[3]
        if code == _SPECIFIC:
            if first not in objects:
                raise RequestRefused(ExceptionCode.ILLEGAL_DATA_ADDRESS)
            asked = [first]
        else:
            asked = [number for number in objects if number <= _LAST_OF[code]]
            # an unknown first object starts the stream over (6.21)
            asked = asked[asked.index(first) if first in asked else 0 :]
        page, rest = _first_page(asked, objects)
        more, following = (_MORE_FOLLOWS, rest[0]) if rest else (0, 0)
        head = bytes((pdu[0], pdu[1], code, conformity, more, following, len(page)))
        return head + b"".join(bytes((n, len(objects[n]))) + objects[n] for n in page)

    return handle


def report_server_id(spec: ServerIdSpec) -> Handler:
    """Handler of function 17: the id, 0xFF for running or 0x00, then what else the file says."""
    content = spec.id.encode() + (b"\xff" if spec.running else b"\x00") + spec.additional.encode()

    def handle(_: Memory, request: Request) -> bytes:
        wrong_unless(len(request.pdu) == 1)
        return bytes((request.pdu[0], len(content))) + content

    return handle


def _objects(spec: IdentificationSpec) -> dict[int, bytes]:
    """Object id -> its value, in the order of ids."""
    named = [
        spec.vendor_name,
        spec.product_code,
        spec.revision,
        spec.vendor_url,
        spec.product_name,
        spec.model_name,
        spec.user_application_name,
    ]
    objects = {number: text.encode() for number, text in enumerate(named) if text is not None}
    return objects | {number: text.encode() for number, text in sorted(spec.private.items())}


def _highest_category(objects: dict[int, bytes]) -> int:
    highest = max(objects)
    return next(code for code, last in _LAST_OF.items() if highest <= last)


def _first_page(numbers: Sequence[int], objects: dict[int, bytes]) -> tuple[Sequence[int], Sequence[int]]:
    """The objects that fit into one reply, at least one, and those that do not."""
    room = MAX_PDU_BYTES - _HEADER_BYTES
    for position, number in enumerate(numbers):
        room -= 2 + len(objects[number])
        if room < 0:
            return numbers[:position], numbers[position:]
    return numbers, ()
