"""When a text was on the screen, from readings; and what counts as a change of the picture."""

import numpy as np

from workers.screen_text import COLUMNS, ROWS, Line, Screen, Watch


def line(text: str, *, top: float = 0.4, confidence: float = 0.9, frame: int = 0) -> Line:
    box = ((0.2, top), (0.8, top), (0.8, top + 0.1), (0.2, top + 0.1))
    return Line(text, confidence, box, frame)


def told(screen: Screen) -> list[tuple[int, int, str]]:
    return [(shown.start_ms, shown.end_ms, shown.line.text) for shown in screen.ended()]


def test_a_card_between_two_cuts_lasts_from_cut_to_cut() -> None:
    screen = Screen()
    screen.edge(0)
    screen.read(0, [])
    screen.edge(1000)
    screen.read(1200, [line("CHAPTER ONE")])
    for at_ms in range(1400, 5000, 200):
        screen.unchanged(at_ms)
    screen.edge(5000)
    screen.read(5200, [])
    assert told(screen) == [(1000, 5000, "CHAPTER ONE")]


def test_readings_over_a_moving_picture_are_one_text_and_the_surest_reading_is_kept() -> None:
    screen = Screen()
    screen.read(0, [line("Hausbot", confidence=0.7, frame=1)])
    screen.read(2000, [line("Hausboot", confidence=0.95, frame=2)])
    screen.read(4000, [line("Haus boot", confidence=0.8, frame=3)])
    screen.finish(5000)
    shown = list(screen.ended())
    assert [(s.start_ms, s.end_ms, s.line.text, s.line.frame_index) for s in shown] == [
        (0, 5000, "Hausboot", 2)
    ]


def test_one_missed_reading_does_not_cut_a_text_in_two_but_a_second_does() -> None:
    screen = Screen()
    screen.read(0, [line("LIVE")])
    screen.read(2000, [])
    screen.read(4000, [line("LIVE")])
    screen.read(6000, [])
    screen.read(8000, [])
    screen.read(10_000, [line("LIVE")])
    screen.finish(12_000)
    assert told(screen) == [(0, 4000, "LIVE"), (10_000, 12_000, "LIVE")]


def test_the_same_card_again_after_another_is_a_text_of_its_own() -> None:
    screen = Screen()
    for at_ms, text in ((0, "STOP"), (1000, "GO"), (2000, "STOP")):
        screen.edge(at_ms)
        screen.read(at_ms, [line(text)])
    screen.finish(3000)
    assert told(screen) == [(0, 1000, "STOP"), (1000, 2000, "GO"), (2000, 3000, "STOP")]


def test_other_digits_are_another_text_and_the_same_words_elsewhere_have_moved() -> None:
    screen = Screen()
    screen.read(0, [line("12:01", top=0.1), line("Directed by", top=0.9)])
    screen.read(2000, [line("12:02", top=0.1), line("Directed by", top=0.2)])
    screen.finish(3000)
    assert told(screen) == [(0, 3000, "Directed by"), (0, 0, "12:01"), (2000, 3000, "12:02")]


def test_texts_come_in_order_of_start_and_one_that_stays_holds_back_later_ones() -> None:
    screen = Screen()
    screen.read(0, [line("LOGO", top=0.0)])
    screen.edge(1000)
    screen.read(1000, [line("LOGO", top=0.0), line("first")])
    screen.edge(2000)
    screen.read(2000, [line("LOGO", top=0.0)])
    assert told(screen) == []
    screen.finish(3000)
    assert told(screen) == [(0, 3000, "LOGO"), (1000, 2000, "first")]


def cells(level: float = 100) -> np.ndarray:
    return np.full((ROWS, COLUMNS), level, np.float32)


def test_flicker_is_no_change_a_subtitle_is_and_a_cut_is_told_from_motion() -> None:
    random = np.random.default_rng(1)
    watch = Watch()
    assert watch.look(cells()).is_new
    watch.mark_read()
    flicker = watch.look(cells() + random.normal(0, 1, (ROWS, COLUMNS)).astype(np.float32))
    assert (flicker.is_new, flicker.is_still, flicker.is_edge) == (False, True, False)
    darker = watch.look(cells(95))
    assert not darker.is_new
    subtitle = cells()
    subtitle[15, 10:20:2] = 160
    seen = watch.look(subtitle)
    assert (seen.is_new, seen.is_edge, seen.is_cut) == (True, True, False)
    watch.mark_read()
    assert not watch.look(subtitle).is_new
    moving = [random.uniform(0, 60, (ROWS, COLUMNS)).astype(np.float32) for _ in range(4)]
    watch.look(moving[0])
    assert not any(watch.look(picture).is_cut for picture in moving[1:])
    after = watch.look(cells(220))
    assert (after.is_new, after.is_edge, after.is_cut) == (True, True, True)
