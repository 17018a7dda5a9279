"""What an AVCHD camera writes beside its pictures: date, maker, model and place (MDPM, "modified DV pack metadata").

The packs lie in user data of the H.264 stream (SEI), each a number and four bytes in ascending order; what is longer goes
on in the packs that follow. As ExifTool reads them.
"""

from typing import Any, NamedTuple

from infrastructure.media.gps import Place, exif_place

_MARK = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
_LONGEST = 2_048
"""Bytes behind the mark: 255 packs of 5 bytes, and what keeps them from looking like a start code."""
_ZONE, _TIME = 0x18, 0x19
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _ALTITUDE_REF, _ALTITUDE = 0xB1, 0xB2, 0xB5, 0xB6, 0xB9, 0xBA
_MAKE, _MODEL = 0xE0, 0xE4
_MAKES = {0x0103: "Panasonic", 0x0108: "Sony", 0x1011: "Canon", 0x1104: "JVC"}
_NO_ZONE = 0xFF
_PACK = 5

Packs = dict[int, bytes]


class CameraNotes(NamedTuple):
    """What the camera wrote down."""

    taken: str | None
    """As EXIF has it, with the offset from UTC where the camera knew it: 2008:12:31 23:16:24+01:00."""
    place: Place | None
    make: str | None
    model: str | None


def notes_in(packet: bytes) -> CameraNotes | None:
    """The notes in a packet of H.264; None when it has none."""
    at = packet.find(_MARK)
    if at < 0:
        return None
    start = at + len(_MARK)
    # Two zeros and a three stand for two zeros: so no data looks like a start code.
    data = packet[start : start + _LONGEST].partition(b"\0\0\1")[0].replace(b"\0\0\3", b"\0\0")
    packs: Packs = {}
    for place in range(1, 1 + _PACK * (data[0] if data else 0), _PACK):
        pack = data[place : place + _PACK]
        if len(pack) < _PACK or (packs and pack[0] <= max(packs)):
            break
        packs[pack[0]] = pack[1:]
    make = _MAKES.get(int.from_bytes(packs.get(_MAKE, b"")[:2]))
    return CameraNotes(_taken(packs), _place(packs), make, _model(packs) if make == "Sony" else None)


def _taken(packs: Packs) -> str | None:
    if _ZONE not in packs or _TIME not in packs:
        return None
    zone, *digits = packs[_ZONE] + packs[_TIME]
    century, year, month, day, hour, minute, second = (f"{each:02x}" for each in digits)
    written = f"{century}{year}:{month}:{day} {hour}:{minute}:{second}"
    if zone == _NO_ZONE:
        return written
    return f"{written}{'-' if zone & 0x20 else '+'}{zone >> 1 & 0xF:02d}:{'30' if zone & 1 else '00'}"


def _place(packs: Packs) -> Place | None:
    gps: dict[int, Any] = {
        1: packs.get(_LATITUDE_REF, b"").decode("latin-1"),
        2: [_rational(packs, _LATITUDE + n) for n in range(3)],
        3: packs.get(_LONGITUDE_REF, b"").decode("latin-1"),
        4: [_rational(packs, _LONGITUDE + n) for n in range(3)],
    }
    if None in gps[2] or None in gps[4]:
        return None
    if (altitude := _rational(packs, _ALTITUDE)) is not None:
        gps |= {5: int(any(packs.get(_ALTITUDE_REF, b""))), 6: altitude}
    return exif_place(gps)


def _rational(packs: Packs, pack: int) -> float | None:
    found = packs.get(pack)
    if found is None:
        return None
    below = int.from_bytes(found[2:])
    return int.from_bytes(found[:2]) / below if below else None


def _model(packs: Packs) -> str | None:
    name = b"".join(packs.get(_MODEL + n, b"") for n in range(3))
    return name.partition(b"\0")[0].decode("ascii", "ignore").strip() or None
