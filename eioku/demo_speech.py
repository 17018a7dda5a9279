"""A voice for the demo film: eSpeak NG out of a wheel, with the time of every word from the synthesiser itself.

Runs in a process of its own (`python -m eioku.demo_speech`): the library keeps state, and only a fresh one speaks the
same sentence in the same samples each time.
"""

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

VOICE, WORDS_A_MINUTE = "en-us", 130
"""Tried voices and speeds against the smallest Whisper model: it understands this one best."""
_SYNCHRONOUS, _NO_EXIT, _UTF8, _RATE_PARAMETER, _WORD_EVENT = 2, 0x8000, 1, 1, 1  # of speak_lib.h


class SpokenWord(msgspec.Struct, frozen=True):
    """A word and when it begins, ms from the start of its sentence's samples."""

    word: str
    start_ms: int
    end_ms: int
    """Where the next word begins, or the sound ends."""


class Speech(msgspec.Struct, frozen=True):
    """One sentence, spoken."""

    text: str
    rate: int
    """Samples a second."""
    pcm: bytes
    """int16 little-endian, mono."""
    words: tuple[SpokenWord, ...]

    @property
    def samples(self) -> npt.NDArray[np.float32]:
        """float32 in [-1, 1], shape (n,)."""
        return np.frombuffer(self.pcm, "<i2").astype(np.float32) / np.float32(32768)


def speak(sentences: Sequence[str]) -> list[Speech]:
    """The sentences, spoken; the same samples for the same list each time."""
    done = subprocess.run(
        [sys.executable, "-m", "eioku.demo_speech"],
        input=msgspec.msgpack.encode(list(sentences)),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.msgpack.decode(done.stdout, type=list[Speech])


class _Event(ctypes.Structure):
    # espeak_EVENT of speak_lib.h
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


def _speak(sentences: Sequence[str]) -> list[Speech]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate: int = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _NO_EXIT)
    pieces: list[bytes] = []
    starts: list[tuple[int, int]] = []

    def hear(wav: Any, count: int, events: Any) -> int:
        if wav and count > 0:
            pieces.append(ctypes.string_at(wav, 2 * count))
        index = 0
        while events[index].type:
            event = events[index]
            if event.type == _WORD_EVENT:
                starts.append((event.audio_position, event.text_position))
            index += 1
        return 0

    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    )(hear)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(VOICE.encode())
    library.espeak_SetParameter(_RATE_PARAMETER, WORDS_A_MINUTE, 0)
    spoken = []
    for text in sentences:
        pieces.clear()
        starts.clear()
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        pcm = b"".join(pieces)
        end_ms = len(pcm) * 1000 // (2 * rate)
        ends = [start for start, _ in starts[1:]] + [end_ms]
        spans = {position - 1: (start, end) for (start, position), end in zip(starts, ends, strict=True)}
        spoken.append(Speech(text, rate, pcm, tuple(_words(text, spans))))
    return spoken


def _words(text: str, spans: dict[int, tuple[int, int]]) -> Iterator[SpokenWord]:
    """Every word of the text; `spans` = place in the text → (start, end) ms.

    The synthesiser runs small words together ("in the") and tells of the first only: they share its time by letters.
    """
    groups: list[tuple[list[str], int, int]] = []
    for match in re.finditer(r"[\w'-]+", text):
        if match.start() in spans:
            groups.append(([match[0]], *spans[match.start()]))
        else:
            groups[-1][0].append(match[0])
    for group, start, end in groups:
        letters, before = sum(map(len, group)), 0
        for word in group:
            after = before + len(word)
            yield SpokenWord(
                word, start + (end - start) * before // letters, start + (end - start) * after // letters
            )
            before = after


if __name__ == "__main__":
    wished = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[str])
    sys.stdout.buffer.write(msgspec.msgpack.encode(_speak(wished)))
