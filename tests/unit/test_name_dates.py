"""Dates in the names that devices and programs give to files."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.media.dates import capture_time
from infrastructure.media.name_dates import LONGEST, date_in

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = datetime(2024, 5, 4, 12, 20, 30, tzinfo=UTC)
DAY = datetime(2024, 5, 4, tzinfo=UTC)
MINUTE = AT.replace(second=0)
NIGHT = datetime(2024, 5, 4, 0, 20, 30, tzinfo=UTC)
EVENING = datetime(2024, 5, 4, 21, 5, 9, tzinfo=UTC)

SECONDS = """\
20240504_122030.mp4
20240504_122030(0).mp4
20240504_122030_1.mp4
VID_20240504_122030.mp4
VID_20240504_122030~2.mp4
VID20240504122030.mp4
VID_20240504_122030_00_001.insv
LRV_20240504_122030_11_001.lrv
IMG_20240504_122030_1.mp4
MVIMG_20240504_122030.MP4
PXL_20240504_122030123.mp4
PXL_20240504_122030123.LS.mp4
PXL_20240504_122030123~3.mp4
SVID_20240504_122030_1.mp4
Screen_Recording_20240504-122030_YouTube.mp4
Screenrecorder-2024-05-04-12-20-30-123.mp4
Screenrecording_20240504_122030.mp4
screen-20240504-122030.mp4
Record_2024-05-04-12-20-30_0a1b2c3d.mp4
ScreenRecording_05-04-2024 12-20-30_1.MP4
Screen Recording 2024-05-04 at 12.20.30.mov
Screen Recording 2024-05-04 at 12.20.30 PM.mov
Screen Recording 2024-05-04 at 12.20.30\u202fPM.mov
Screen Recording 2024-05-04 at 12.20.30 p.m..mov
Screen Recording 2024-05-04 122030.mp4
Bildschirmaufnahme 2024-05-04 um 12.20.30.mov
Enregistrement de l’écran 2024-05-04 à 12.20.30.mov
Grabación de pantalla 2024-05-04 a la(s) 12.20.30 p.m..mov
Registrazione schermo 2024-05-04 alle 12.20.30.mov
Schermopname 2024-05-04 om 12.20.30.mov
Skärminspelning 2024-05-04 kl. 12.20.30.mov
Gravação de Tela 2024-05-04 às 12.20.30.mov
Nagranie z ekranu 2024-05-04 o 12.20.30.mov
Запись экрана 2024-05-04 в 12.20.30.mov
Ekran Kaydı 2024-05-04 12.20.30.mov
画面収録 2024-05-04 午後0.20.30.mov
屏幕录制2024-05-04 下午12.20.30.mov
화면 기록 2024-05-04 오후 12.20.30.mov
2024年5月4日 12.20.30.mov
2024-05-04 12-20-30.mkv
Replay 2024-05-04 12-20-30.mp4
2024-05-04_12-20-30.mp4
simplescreenrecorder-2024-05-04_12.20.30.mkv
Screencast from 2024-05-04 12-20-30.webm
Screencast From 2024-05-04 12-20-30.mp4
Bildschirmaufzeichnung vom 2024-05-04 12-20-30.webm
Screencast_20240504_122030.webm
Forza Horizon 5 2024.05.04 - 12.20.30.02.DVR.mp4
Minecraft 2024-05-04 12-20-30.mp4
Halo 5_4_2024 12_20_30 PM.mp4
Aufnahme 04.05.2024 12.20.30.mp4
GMT20240504-122030_Recording.mp4
GMT20240504-122030_Recording_1920x1080.mp4
GMT20240504-122030_Recording_gallery_1280x720.mp4
Weekly-20240504_122030-Meeting Recording.mp4
Meeting in _General_-20240504_122030-Meeting Recording.mp4
WhatsApp Video 2024-05-04 at 12.20.30.mp4
WhatsApp Video 2024-05-04 at 12.20.30 (1).mp4
WhatsApp Video 2024-05-04 at 12.20.30 PM.mp4
WhatsApp Video 2024-05-04 um 12.20.30_0a1b2c3d.mp4
video_2024-05-04_12-20-30.mp4
signal-2024-05-04-12-20-30-123.mp4
signal-2024-05-04-12-20-30-123 (2).mp4
signal-2024-05-04-122030.mp4
viber_video_2024-05-04_12-20-30-123.mp4
video-2024-05-04-12-20-30.mp4
WeChat_20240504122030.mp4
微信视频20240504122030.mp4
InShot_20240504_122030123.mp4
VN_20240504_122030.mp4
YouCut_20240504_122030.mp4
lv_0_20240504122030.mp4
DJI_20240504122030_0094_D.MP4
DJI_20240504_122030_12_video.mp4
dji_fly_20240504_122030_0001_1714825230123_video.mp4
dji_mimo_20240504_122030_20240504122030_1.mp4
20240504122030_000123A.MP4
2024_0504_122030_001.MP4
2024_0504_122030_001A.MP4
20240504_122030_NF.mp4
REC_2024_05_04_12_20_30_F.MP4
240504_122030_001_FH.MP4
FILE240504-122030F.MP4
NO20240504-122030-000123F.MP4
EV20240504-122030-000124B.MP4
2024-05-04_12-20-30-front.mp4
2024-05-04_12-20-30-left_repeater.mp4
20240504122030_0060.mp4
20240504_122030_0001_N_A.MP4
ch01_20240504122030.mp4
192.168.1.64_01_20240504122030123.mp4
Cam1_ch1_main_20240504122030_20240504122500.dav
RLC-410_00_20240504122030.mp4
Garden-00-122030-20240504122030.mp4
RingVideo_20240504_122030.mp4
Ring_FrontDoor_20240504T122030Z.mp4
nest-2024-05-04T12-20-30Z.mp4
wyze_2024-05-04_12-20-30.mp4
eufy 2024-05-04 12-20-30.mp4
20240504T122030+0000.mp4
2024-05-04 12:20:30.mp4
RPReplay_Final1714825230.mp4
RPReplay_Final1714825230 2.MP4
mmexport1714825230123.mp4
wx_camera_1714825230123.mp4
LINE_MOVIE_1714825230123.mp4
FB_VID_1714825230123.mp4
video-1714825230.mp4
20M30S_1714825230.mp4
２０２４０５０４＿１２２０３０.mp4
""".splitlines()
MINUTES = [
    "abc-defg-hij (2024-05-04 12_20 GMT).mp4",
    "abc-defg-hij (2024-05-04 12:20 UTC).mp4",
    "Valorant_2024.05.04-12.20.mp4",
    "Standup-20240504 1220-1.mp4",
    "2024-05-04 at 12.20.mp4",
]
DAYS = [
    "VID-20240504-WA0007.mp4",
    "IMG-20240504-WA0012.mp4",
    "VID-20240504-WA0007(1).mp4",
    "20240504_C0001.MP4",
    "20240504_0001.MP4",
    "VID_20240504.mp4",
    "2024-05-04.mp4",
    "2024-05-04 birthday.mp4",
    "birthday 2024-05-04 (2).mp4",
    "2024-05-04 Anna 10-15.mp4",
    "2024_05_04 beach.mov",
    "2024.05.04 beach.mov",
    "04.05.2024 Strand.mov",
    "2024年5月4日.mp4",
    "2024-05-04 99.99.99.mp4",
]
NO_DATE = """\
IMG_1234.MOV
MVI_1234.MP4
DSC_0001.MOV
DSCN1234.AVI
C0001.MP4
P1000123.MP4
00001.MTS
GX010123.MP4
GH020123.MP4
GOPR0001.MP4
DJI_0001.MP4
GRMN0001.MP4
A001_05041220_C001.braw
zoom_0.mp4
holiday 2024.mp4
VID_20241304_120000.mp4
VID_20240230_120000.mp4
19000504_122030.mp4
1900-05-04.mp4
20990504_122030.mp4
2099-05-04.mp4
mmexport9914825230123.mp4
RPReplay_Final0000000001.mp4
clip 19201080.mp4
clip 1920x1080.mp4
20481536.mp4
4915112345678.mp4
call +49 151 20240504122.mp4
12025550123.mp4
received_2024050412203012.mp4
received_1234567890123456.mp4
Snapchat-1234567890.mp4
v09044g40000cmabcdefghij.mp4
ab20191018cd.mp4
f20240504.mp4
20240504-1220-4abc-9def-0123456789ab.mp4
video-2024.mp4
part 10-15-20.mp4
202405041220301234567.mp4
film.mp4
.mp4
""".splitlines()


@pytest.mark.parametrize("name", SECONDS)
def test_a_name_with_a_time_gives_that_second(name: str) -> None:
    found = date_in(name, now=NOW)
    assert found is not None
    assert (found.at.replace(tzinfo=UTC), found.precision) == (AT, "second")


@pytest.mark.parametrize("name", MINUTES)
def test_a_name_without_seconds_gives_that_minute(name: str) -> None:
    found = date_in(name, now=NOW)
    assert found is not None
    assert (found.at.replace(tzinfo=UTC), found.precision) == (MINUTE, "minute")


@pytest.mark.parametrize("name", DAYS)
def test_a_name_with_a_day_alone_gives_that_day(name: str) -> None:
    found = date_in(name, now=NOW)
    assert found is not None
    assert (found.at.replace(tzinfo=UTC), found.precision) == (DAY, "day")


@pytest.mark.parametrize("name", NO_DATE)
def test_other_numbers_and_impossible_dates_are_none(name: str) -> None:
    assert date_in(name, now=NOW) is None


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("Screen Recording 2024-05-04 at 12.20.30 AM.mov", NIGHT),
        ("Screen Recording 2024-05-04 at 9.05.09\u202fPM.mov", EVENING),
        ("屏幕录制2024-05-04 上午12.20.30.mov", NIGHT),
        ("画面収録 2024-05-04 午後9.05.09.mov", EVENING),
        ("화면 기록 2024-05-04 오후 9.05.09.mov", EVENING),
        ("Grabación de pantalla 2024-05-04 a la(s) 9.05.09 p. m..mov", EVENING),
    ],
)
def test_clocks_of_twelve_hours_are_read(name: str, at: datetime) -> None:
    found = date_in(name, now=NOW)
    assert found is not None
    assert found.at.replace(tzinfo=UTC) == at


@pytest.mark.parametrize(
    ("name", "at", "offset_min"),
    [
        ("VID_20240504_142030.mp4", AT, None),
        ("PXL_20240504_122030123.mp4", AT, None),
        ("GMT20240504-122030_Recording.mp4", AT, None),
        ("Weekly-20240504_122030-Meeting Recording.mp4", AT, None),
        ("nest-2024-05-04T12-20-30Z.mp4", AT, None),
        ("RPReplay_Final1714825230.mp4", AT, None),
        ("20240504T172030+0500.mp4", AT, 300),
        ("hij (2024-05-04 17:50 GMT+5:30).mp4", MINUTE, 330),
        ("hij (2024-05-04 04:20 GMT-8).mp4", MINUTE, -480),
        ("VID_20240504_142030-1.mp4", AT, None),  # a counter is no offset
        ("VID-20240504-WA0007.mp4", datetime(2024, 5, 3, 22, tzinfo=UTC), None),
    ],
)
def test_names_are_local_time_unless_they_are_known_to_be_utc_or_say_their_offset(name, at, offset_min) -> None:
    found = capture_time({}, file_name=name, zone=ZoneInfo("Europe/Berlin"), now=NOW)
    assert found is not None
    assert (found.at, found.source, found.offset_min) == (at, "filename", offset_min)


FORMS = [
    "VID_%Y%m%d_%H%M%S.mp4",
    "PXL_%Y%m%d_%H%M%S123.mp4",
    "%Y%m%d%H%M%S_000123A.MP4",
    "DJI_%Y%m%d%H%M%S_0001_D.MP4",
    "%Y_%m%d_%H%M%S_001.MP4",
    "REC_%Y_%m_%d_%H_%M_%S_F.MP4",
    "%y%m%d_%H%M%S_001_FH.MP4",
    "signal-%Y-%m-%d-%H-%M-%S-123.mp4",
    "WhatsApp Video %Y-%m-%d at %H.%M.%S.mp4",
    "Screen Recording %Y-%m-%d at %I.%M.%S\u202f%p.mov",
    "Bildschirmaufnahme %Y-%m-%d um %H.%M.%S.mov",
    "ScreenRecording_%m-%d-%Y %H-%M-%S_1.MP4",
    "Game %Y.%m.%d - %H.%M.%S.02.DVR.mp4",
    "Aufnahme %d.%m.%Y %H.%M.%S.mp4",
    "%Y年%m月%d日 %H.%M.%S.mp4",
    "GMT%Y%m%d-%H%M%S_Recording.mp4",
    "Meeting-%Y%m%d_%H%M%S-Meeting Recording.mp4",
]


@given(
    form=st.sampled_from(FORMS),
    at=st.datetimes(NOW.replace(year=2000, tzinfo=None), NOW.replace(year=2025, tzinfo=None)),
)
def test_whatever_a_device_writes_is_read_back(form: str, at: datetime) -> None:
    found = date_in(at.strftime(form), now=NOW)
    assert found is not None
    assert found.at.replace(tzinfo=None) == at.replace(microsecond=0)


@given(st.text(max_size=2 * LONGEST) | st.text("0123456789-_. :TZ上午年月日apmAPM+", max_size=2 * LONGEST))
def test_any_name_is_read_without_an_error_and_never_gives_what_is_still_to_come(name: str) -> None:
    found = date_in(name, now=NOW)
    assert found is None or found.at.replace(tzinfo=found.at.tzinfo or UTC) <= NOW + timedelta(days=1)


def test_a_name_that_somebody_made_very_long_is_looked_at_in_part() -> None:
    assert date_in("2024-05-04 " + "1-" * 500_000, now=NOW) is not None
    assert date_in("1" * 1_000_000, now=NOW) is None
