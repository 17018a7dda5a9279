"""Subtitles, ranges, names in headers and names of uploads: pure functions at the API's edge."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import subtitles
from api.files import byte_range, disposition
from api.problems import MalformedBody
from api.subtitles import Cue, parse
from api.uploads import MOST_NAME_BYTES, safe_name
from domain.errors import InvalidParameter, RangeNotSatisfiable, TooLarge

VTT = b"""\xef\xbb\xbfWEBVTT - made elsewhere
X-Header: 1

STYLE
::cue { color: red }

NOTE a remark
over two lines

intro
00:01.250 --> 00:02.500 align:start position:10%
<v Ada Lovelace><i>Hello</i> &amp; welcome
to <c.loud>this</c>

01:00:03.000 --> 01:00:04.000

00:05.000 --> 00:05.000
a point
"""


def test_vtt_is_read_with_short_times_settings_markup_and_speakers():
    assert parse(VTT, is_vtt=True) == [
        Cue(1250, 2500, "Hello & welcome to this", speaker="Ada Lovelace"),
        Cue(5000, 5000, "a point"),
    ]


def test_srt_is_read_with_windows_line_ends_and_without_numbers():
    body = "1\r\n00:00:01,250 --> 00:00:02,500\r\n{\\an8}<b>Hello</b>\r\nthere\r\n\r\n00:01:03,5 --> 00:01:04,000\r\nBye"
    assert parse(body.encode(), is_vtt=False) == [Cue(1250, 2500, "Hello there"), Cue(63_500, 64_000, "Bye")]


@pytest.mark.parametrize(
    ("body", "is_vtt"),
    [
        (b"00:01.000 --> 00:02.000\nno header", True),
        (b"WEBVTTX\n", True),
        (b"WEBVTT\n\n00:02.000 --> 00:01.000\nbackwards", True),
        (b"WEBVTT\n\n00:02.000 --> soon\nno time", True),
        (b"1\n00:00:01,000 --> 9999:00:00,000\ntoo long", False),
        (b"\xff\xfe", False),
    ],
)
def test_broken_subtitles_are_malformed(body, is_vtt):
    with pytest.raises(MalformedBody):
        parse(body, is_vtt=is_vtt)


def cue(said: str) -> bytes:
    return f"WEBVTT\n\n00:01.000 --> 00:02.000\n{said}\n".encode()


HANGS = ["<v.a", "<v ", "<v", "<v.", "<v\t", "{\\", "<a", "</", "<1:", "&#", "&amp", "&#9", "<", ">", "{\\}", " ", "<v.a b>"]


@pytest.mark.parametrize("said", HANGS)
def test_a_subtitle_that_would_hang_an_ambiguous_pattern_is_read_at_once(said):
    # Ten thousand times what hung the API for good; a parser that is not linear would not end today.
    assert len(parse(cue("a" + said * 300_000), is_vtt=True)) == 1


@given(st.lists(st.sampled_from([*HANGS, "a", "9", ";", "x>", "}", "\n"]), max_size=60))
def test_whatever_is_said_is_read_or_malformed(parts):
    with contextlib.suppress(MalformedBody):
        for each in parse(cue("".join(parts)), is_vtt=True):
            assert each.text == each.text.strip() != ""
            assert each.speaker is None or each.speaker.strip()


def test_subtitles_are_bounded_in_bytes_and_cues():
    one = b"00:00:01,000 --> 00:00:02,000\nx\n\n"
    assert len(parse(one * subtitles.MOST_CUES, is_vtt=False)) == subtitles.MOST_CUES
    with pytest.raises(InvalidParameter, match="100000 cues"):
        parse(one * (subtitles.MOST_CUES + 1), is_vtt=False)
    with pytest.raises(TooLarge, match="bytes"):
        parse(b"x" * (subtitles.MOST_BYTES + 1), is_vtt=False)


@pytest.mark.parametrize(
    ("said", "text", "speaker"),
    [
        ("<v.loud.first Esme &amp; Mary>Hi", "Hi", "Esme & Mary"),
        ("<v>Hi</v>", "Hi", None),
        ("Tom &lt;3 Ann &#38; &#x26; AT&T &nosuch;", "Tom <3 Ann & & AT&T &nosuch;", None),
        ("<00:00:01.500><c.yellow>Hi</c>", "Hi", None),
        ("1 < 2 > 0", "1 < 2 > 0", None),
        ("{\\an8\\pos(1,2)}Hi {really}", "Hi {really}", None),
        ("&#" + "9" * 5_000 + ";", "&#" + "9" * 5_000 + ";", None),
    ],
)
def test_mark_up_and_entities(said, text, speaker):
    assert parse(cue(said), is_vtt=True) == [Cue(1000, 2000, text, speaker)]


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(
    lambda t: t.strip() and "-->" not in t
)


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**6), TEXT), max_size=5))
def test_what_is_written_as_vtt_is_read_back(said):
    cues = [Cue(start, start + length, " ".join(text.split())) for start, length, text in said]
    assert parse("".join(subtitles.vtt(cues)).encode(), is_vtt=True) == cues


def test_srt_and_txt_are_written():
    cues = [Cue(1000, 2000, "a\n\nb"), Cue(3_723_004, 3_724_000, "c --> d")]
    assert "".join(subtitles.srt(cues)) == (
        "1\n00:00:01,000 --> 00:00:02,000\na\nb\n\n2\n01:02:03,004 --> 01:02:04,000\nc -> d\n\n"
    )
    assert "".join(subtitles.txt(cues)).splitlines()[-1] == "c --> d"


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-3", (0, 3)),
        ("bytes=5-", (5, 9)),
        ("bytes=-4", (6, 9)),
        ("bytes=-40", (0, 9)),
        ("bytes=2-900", (2, 9)),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_ranges_of_ten_bytes(header, part):
    assert byte_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_ranges_behind_the_end_are_not_satisfiable(header):
    with pytest.raises(RangeNotSatisfiable):
        byte_range(header, 10)


@given(st.text())
def test_no_file_name_breaks_out_of_its_header(name):
    header = disposition(name, inline=False)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    header.encode("latin-1")


def test_a_name_keeps_its_letters_beside_a_plain_one():
    assert disposition('日本 "a"\r\nX: 1.mp4', inline=True) == (
        "inline; filename=\"__ _a_X: 1.mp4\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%20%22a%22X%3A%201.mp4"
    )


@given(st.text())
def test_upload_names_stay_in_their_folder_and_fit_any_file_system(name):
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= MOST_NAME_BYTES
    assert "/" not in safe
    assert safe not in (".", "..")
    assert safe.isprintable()


def test_upload_names_keep_their_ending():
    assert safe_name("../../etc/pass:wd" + "ä" * 300 + ".mp4").endswith("ä.mp4")
    assert safe_name("C:\\films\\beach.MOV") == "beach.MOV"
    assert safe_name("...") == "upload"
