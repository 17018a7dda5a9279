"""What AVCHD cameras write beside their pictures."""

from datetime import UTC, datetime
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.media.gps import Place
from infrastructure.media.mdpm import CameraNotes, notes_in
from infrastructure.media.probe import probe
from tests.support import media

MARK = bytes.fromhex("17ee8c60f84d11d98cd60800200c9a66") + b"MDPM"
CANON = {0x18: "02200812", 0x19: "31231624", 0xE0: "10110000"}
SONY = {
    0x18: "c2201307", 0x19: "13122643", 0xB0: "02020000", 0xB1: "4e000000", 0xB2: "00300001", 0xB3: "00330001",
    0xB4: "01ad000f", 0xB5: "45000000", 0xB6: "00020001", 0xB7: "00110001", 0xB8: "002a0001", 0xB9: "00000000",
    0xBA: "00230001", 0xE0: "01080000", 0xE4: "44534320", 0xE5: "48583756", 0xE6: "00000000",
}  # fmt: skip


def sei(packs: dict[int, str]) -> bytes:
    """A NAL unit of user data, its zeros kept from looking like a start code."""
    body = MARK + bytes([len(packs)]) + b"".join(bytes([key]) + bytes.fromhex(pack) for key, pack in packs.items())
    unit, zeros = bytearray(), 0
    for byte in b"\x06\x05" + bytes([len(body)]) + body + b"\x80":
        if zeros == 2 and byte <= 3:
            unit.append(3)
            zeros = 0
        unit.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\0\0\0\1" + bytes(unit)


@pytest.mark.parametrize(
    ("packs", "notes"),
    [
        (CANON, CameraNotes("2008:12:31 23:16:24+01:00", None, "Canon", None)),
        (SONY, CameraNotes("2013:07:13 12:26:43+01:00", Place(48.8579444, 2.295, 35.0), "Sony", "DSC HX7V")),
        (CANON | {0x18: "ff200812"}, CameraNotes("2008:12:31 23:16:24", None, "Canon", None)),
        (CANON | {0x18: "2b200812"}, CameraNotes("2008:12:31 23:16:24-05:30", None, "Canon", None)),
        ({0x18: "02200812"}, CameraNotes(None, None, None, None)),
        ({0x70: "00000000", 0xE0: "01030000"}, CameraNotes(None, None, "Panasonic", None)),
        ({0xE0: "ffff0000"}, CameraNotes(None, None, None, None)),
        ({0xB2: "00300001", 0xB3: "00330000", 0xB4: "00000000"}, CameraNotes(None, None, None, None)),
    ],
)
def test_the_packs_give_date_zone_place_maker_and_model(packs: dict[int, str], notes: CameraNotes) -> None:
    found = notes_in(b"\0\0\0\1\x09\xf0" + sei(packs) + b"\0\0\0\1\x65\x88")
    assert found is not None
    assert found._replace(place=None) == notes._replace(place=None)
    assert (found.place is None) == (notes.place is None)
    assert found.place == (None if notes.place is None else pytest.approx(notes.place))


@given(st.binary(max_size=3_000))
def test_damaged_packs_are_read_as_far_as_they_go(data: bytes) -> None:
    assert isinstance(notes_in(MARK + data), CameraNotes)
    assert notes_in(data) is None


@pytest.mark.parametrize("suffix", [".mts", ".mp4"])
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_an_avchd_film_has_its_cameras_date_and_name(tmp_path: Path, suffix: str, is_cut_off: bool) -> None:
    plain, film = media.clip(tmp_path / "plain.ts", container="mpegts"), tmp_path / f"00001{suffix}"
    with av.open(str(plain)) as source, av.open(str(film), "w", format="mpegts" if suffix == ".mts" else None) as out:
        track = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            # What behind the notes is cut off is no picture any more.
            noted = av.Packet(sei(SONY) + (b"" if is_cut_off else bytes(packet)))
            noted.pts, noted.dts, noted.time_base = packet.pts, packet.dts, packet.time_base
            noted.is_keyframe, noted.stream = packet.is_keyframe, track
            out.mux(noted)
    found = probe(film)
    assert found.facts.file_created_at == datetime(2013, 7, 13, 11, 26, 43, tzinfo=UTC)
    assert (found.captured_at_source, found.captured_at_offset_min) == ("mdpm", 60)
    assert (found.camera_make, found.camera_model) == ("Sony", "DSC HX7V")
    assert found.place is not None
    assert (found.flaw is not None) == is_cut_off
