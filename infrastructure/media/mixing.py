"""Sound of any number of channels as mono or stereo, whatever becomes of its format on the way."""

from collections.abc import Iterator
from typing import Literal

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame

Samples = npt.NDArray[np.float32]
"""Shape (channels, n)."""
PLACES = frozenset({"FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "DL", "DR"})
"""Channels that FFmpeg mixes down by the tables of ATSC A/52; it leaves out others, such as those above the head."""
FADING_S = 1.0
"""In which what is known of a channel's loudness falls by half."""
BESIDE = 10.0
"""A channel whose loudness is less than this part of the loudest one's (20 dB below) counts less and less: 62 microphones
that hum must not cover the two that hear somebody."""


class Mixer:
    """Takes decoded frames of one track, gives float32 samples at one rate."""

    def __init__(self, layout: Literal["mono", "stereo"], rate: int) -> None:
        self._layout, self._rate = layout, rate
        self._format: tuple[str, str, int] | None = None
        """(sample format, layout, rate) of the frames that come at present."""
        self._resampler = self._new_resampler()
        self._by_hand: _ByHand | None = None
        self._limiter: _Limiter | None = None
        """None where one or two channels come, which nothing adds up to more than there is room for."""

    def take(self, frame: AudioFrame) -> Iterator[Samples]:
        """What comes out for this frame; first the rest of those before, if it is of another format than they."""
        format_ = (frame.format.name, frame.layout.name, frame.sample_rate)
        if format_ != self._format:
            yield from self.rest()
            self._begin(frame)
            self._format = format_
        if self._by_hand is not None:
            frame = self._by_hand(frame)
        frame.pts = None  # the resampler must not fill gaps: that is done already
        yield from self._resampled(frame)

    def rest(self) -> Iterator[Samples]:
        """What the resampler still holds."""
        if self._format is not None:
            yield from self._resampled(None)

    def _begin(self, frame: AudioFrame) -> None:
        self._resampler = self._new_resampler()
        names = {channel.name for channel in frame.layout.channels}
        is_plain = frame.layout.name in {"mono", "stereo"}
        self._by_hand = None if is_plain or names <= PLACES else _ByHand(frame, self._layout)
        self._limiter = None if is_plain else _Limiter(self._rate)

    def _resampled(self, frame: AudioFrame | None) -> Iterator[Samples]:
        for piece in self._resampler.resample(frame):
            samples = np.ascontiguousarray(piece.to_ndarray(), dtype=np.float32)
            yield self._limiter(samples) if self._limiter is not None else samples

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="fltp", layout=self._layout, rate=self._rate)


class _ByHand:
    """Mixes channels of which nobody says where they belong: a voice in one alone is as loud as one in all of them."""

    def __init__(self, frame: AudioFrame, layout: Literal["mono", "stereo"]) -> None:
        self._layout = layout
        self._channels = frame.layout.nb_channels
        # PyAV's arrays go wrong from eight planes on, and know no samples of 64 bits.
        self._packer = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
        self._levels = np.zeros(self._channels, np.float32)
        self._gains: Samples | None = None

    def __call__(self, frame: AudioFrame) -> AudioFrame:
        rate = frame.sample_rate
        packed = [part.to_ndarray().reshape(-1, self._channels) for part in self._packer.resample(frame)]
        mixed = self._mixed(np.concatenate(packed).astype(np.float32, copy=False), rate)
        whole = np.vstack([mixed] * (1 if self._layout == "mono" else 2))
        out = AudioFrame.from_ndarray(whole, "fltp", self._layout)
        out.sample_rate = rate
        return out

    def _mixed(self, samples: Samples, rate: int) -> Samples:
        """`samples` of shape (n, channels) as shape (n,)."""
        faded = self._levels * np.float32(0.5 ** (len(samples) / rate / FADING_S))
        self._levels = np.maximum(np.sqrt(np.mean(samples**2, axis=0)), faded)
        shares = self._levels / (self._levels.max() or 1)
        counts = np.minimum(1, shares * BESIDE)
        gains = (counts / max(1.0, float(counts @ shares))).astype(np.float32)
        before = self._gains if self._gains is not None else gains
        self._gains = gains
        slope = np.linspace(0, 1, len(samples), endpoint=False, dtype=np.float32)
        mixed: Samples = samples @ before + slope * (samples @ (gains - before))
        return mixed


class _Limiter:
    """Makes what is too loud quieter, and lets it grow again within seconds."""

    def __init__(self, rate: int) -> None:
        self._rate, self._gain = rate, 1.0

    def __call__(self, samples: Samples) -> Samples:
        self._gain = min(1.0, self._gain * 2 ** (samples.shape[1] / self._rate / FADING_S))
        peak = float(np.abs(samples).max(initial=0.0))
        if peak * self._gain > 1:
            self._gain = 1 / peak
        return samples if self._gain == 1 else samples * np.float32(self._gain)
