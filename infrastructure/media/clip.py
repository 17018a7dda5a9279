"""Cutting a stretch out of a video, exact to the frame and sample, as an mp4 that plays everywhere."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from domain.errors import JobCancelled, MediaUnreadable
from infrastructure.media.clock import Clock, Showing, begins_after, clock_of
from infrastructure.media.mixing import Mixer, Samples
from infrastructure.media.orientation import UPRIGHT, Orientation, Screen, displayed, fit, orientation_of
from infrastructure.media.seek import Decoded, decoded_from
from infrastructure.media.source import MOST_PIXELS, MOST_SIDE, open_media
from infrastructure.media.tracks import picture_track, sound_of, tracks_of

CLOCK = Fraction(1, 90_000)
"""Time base of the pictures written: every frame rate in use is near a whole number of its ticks."""
SLACK = 2
"""Pixels that a side may be off without black bars: sides are made even, and pixels need not be square."""
MOST_RATE = 1000
"""Frames a second; what is more is no rate but a time base (FFmpeg says 60000 of DV)."""
LEAD_MS = 500
"""Sound may lie so far before the pictures beside it in a file."""
LATE = 10
"""Seconds behind the window in which the first picture of a file is waited for: it stands for all before it."""
ROOM = Fraction(1, 2)
"""Seconds that a container's streams may be interleaved apart: after that much silence a stream counts as ended."""


class _Window(NamedTuple):
    start_ms: int
    end_ms: int

    @property
    def start(self) -> Fraction:
        """Seconds."""
        return Fraction(self.start_ms, 1000)

    @property
    def end(self) -> Fraction:
        """Seconds."""
        return Fraction(self.end_ms, 1000)


def cut(path: Path, out: Path, *, start_ms: int, end_ms: int, should_stop: Callable[[], bool]) -> None:
    """Write [start_ms, end_ms) of `path` to `out` as mp4: H.264 and AAC, beginning at 0, index in front.

    The picture on screen at `start_ms` comes first, also when its frame began before. A file with only sound gives
    one with only sound. What lies behind the end of the file is not there; `should_stop` is asked once a packet.

    Raises:
        MediaMissing, MediaUnreadable: no media, or nothing in that stretch can be decoded.
        JobCancelled: `should_stop` said so.
    """
    clock = clock_of(path)
    with open_media(path) as source:
        window = _Window(start_ms, end_ms)
        picture, heard = picture_track(path, source), tracks_of(path).sound
        sound = source.streams[heard.track] if heard is not None else None
        assert sound is None or isinstance(sound, AudioStream)
        streams = [s for s in (picture, sound) if s is not None]
        if not streams:
            sound_of(path)  # raises when there is some, in a codec that is not decoded here
            raise MediaUnreadable(f"{path} has neither pictures nor sound")
        if picture is not None:
            picture.thread_type = "AUTO"
        with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as target:
            # Every track must exist before the first packet is written.
            cutters: dict[int, _Pictures | _Sound] = {}
            if picture is not None:
                showing, size = Showing(clock, picture), _size(source, picture)
                cutters[picture.index] = _Pictures(target, picture, showing, window, size=size)
            if sound is not None:
                cutters[sound.index] = _Sound(target, sound, clock, window)
            read = decoded_from(path, source, clock, streams, start_ms, lead_ms=LEAD_MS if sound is not None else 0)
            try:
                _take(read, clock, cutters, window, should_stop)
                count = sum(cutter.finish() for cutter in cutters.values())
            except av.FFmpegError as error:
                raise MediaUnreadable(f"{path} cannot be cut: {error.strerror}") from error
        if not count:
            raise MediaUnreadable(f"nothing between {start_ms} and {end_ms} ms of {path} can be decoded")


def _take(
    read: Iterator[Decoded],
    clock: Clock,
    cutters: "dict[int, _Pictures | _Sound]",
    window: _Window,
    should_stop: Callable[[], bool],
) -> None:
    ended: set[int] = set()
    for packet, frames in read:
        if should_stop():
            raise JobCancelled("nobody waits for the clip any more")
        index = packet.stream.index
        if index in ended:
            continue
        until = window.end + (ROOM if cutters[index].has_begun else LATE)
        is_behind = packet.dts is not None and packet.dts * packet.time_base - clock.start > until
        # Behind the end the decoder gives what it still holds: as many frames as it has threads.
        for frame in (*frames, *(packet.stream.decode() if is_behind else ())):
            if index not in ended and not cutters[index].take(frame):
                ended.add(index)
        if is_behind:
            ended.add(index)
        if len(ended) == len(cutters):
            return


class _Pictures:
    """Takes decoded frames, writes those of the window."""

    def __init__(
        self, target: OutputContainer, source: VideoStream, showing: Showing, window: _Window, *, size: tuple[int, int]
    ) -> None:
        self.target, self.showing, self.window = target, showing, window
        rates = (source.average_rate, source.guessed_rate, 25)
        self.rate = next(Fraction(rate) for rate in rates if rate and rate <= MOST_RATE)
        self.stream: VideoStream = target.add_stream("libx264", rate=self.rate)
        # No frames out of order: then each packet's duration is known from the next one.
        self.stream.options = {"preset": "veryfast", "crf": "21", "bf": "0"}
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.time_base = CLOCK
        self.screen = Screen(source)
        self.upright = _Upright(size)
        self.held: tuple[VideoFrame, Fraction] | None = None
        self.packet: Packet[Any] | None = None
        self.count = 0
        self.last = -1
        # The size is needed when the header is written, which is before the first frame.
        self.stream.width, self.stream.height = size

    def take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Whether more may come."""
        assert isinstance(frame, VideoFrame)
        self.screen.note(frame)
        time = self.showing.time_of(frame)
        if time is None:
            return True
        if begins_after(time, self.window.end_ms - 1):
            self.held = self.held or (frame, self.window.start)
            return False
        # The newest frame waits: only the one after it tells whether it is on screen when the window opens.
        if self.held is not None and begins_after(time, self.window.start_ms):
            self._write(*self.held)
        self.held = (frame, time)
        return True

    @property
    def has_begun(self) -> bool:
        """Whether there is a picture to show."""
        return self.held is not None

    def finish(self) -> int:
        """Write what waits; the number of frames written."""
        if self.held is not None:
            frame, time = self.held
            self._write(frame, time)
            # A lone picture of a slide show must last: shown again where the window ends.
            again = self.window.end - 1 / self.rate
            if again - max(time, self.window.start) > 2 / self.rate:
                self._write(frame, again)
        if self.count:
            self._mux(self.stream.encode(None))
        if self.packet is not None:
            last = max(1, round((self.window.end - self.window.start) / CLOCK) - self.last)
            self.packet.duration = min(last, max(1, round(1 / self.rate / CLOCK)))
            self.target.mux(self.packet)
        return self.count

    def _write(self, frame: VideoFrame, time: Fraction) -> None:
        is_later = begins_after(time, self.window.start_ms)
        pts = max(0, round((time - self.window.start) / CLOCK)) if is_later else 0
        if pts <= self.last:
            return
        shaped = self.upright(frame).reformat(self.stream.width, self.stream.height, "yuv420p")
        shaped.pts, shaped.time_base = pts, CLOCK
        shaped.pict_type = av.video.frame.PictureType.NONE  # the source's key frames are not ours
        self.last = pts
        self.count += 1
        self._mux(self.stream.encode(shaped))

    def _mux(self, packets: "list[Packet[Any]]") -> None:
        for packet in packets:
            if self.packet is not None and packet.pts is not None and self.packet.pts is not None:
                self.packet.duration = packet.pts - self.packet.pts
                self.target.mux(self.packet)
            self.packet = packet


class _Sound:
    """Takes decoded sound, writes the samples of the window."""

    has_begun = True
    """It is not waited for: there may be none for long."""

    def __init__(self, target: OutputContainer, source: AudioStream, clock: Clock, window: _Window) -> None:
        self.target, self.clock, self.source, self.start = target, clock, source, window.start
        rate = min(source.codec_context.sample_rate or 48_000, 48_000)
        self.rate = rate if rate in (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000) else 48_000
        layout: Literal["mono", "stereo"] = "mono" if source.codec_context.channels == 1 else "stereo"
        self.stream: AudioStream = target.add_stream("aac", rate=self.rate, layout=layout)
        self.mixer = Mixer(layout, self.rate)
        self.layout = layout
        self.most = round((window.end - window.start) * self.rate)
        self.next: int | None = None
        self.count = 0

    def take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Whether more may come."""
        assert isinstance(frame, AudioFrame)
        time = self.clock.time_of(frame, self.source)
        place = self.next or 0 if time is None else round((time - self.start) * self.rate)
        if self.next is None:
            self.next = place
        behind, tolerance = self.next - place, self.rate // 20
        if behind > self.rate:
            # A clock that started again, as `read_sound` takes it: go on.
            self.start -= Fraction(behind, self.rate)
        elif behind > tolerance:
            return True  # it lies over what is there already, as at a splice
        elif behind < -tolerance:
            self._write(np.zeros((len(self.stream.layout.channels), min(place, self.most) - self.next), np.float32))
            self.next = place
        for samples in self.mixer.take(frame):
            self._write(samples)
        return self.next < self.most

    def _write(self, samples: Samples) -> None:
        """Samples from `next` on: those of the window."""
        assert self.next is not None
        first, last = max(0, -self.next), min(samples.shape[1], self.most - self.next)
        if first < last:
            part = AudioFrame.from_ndarray(samples[:, first:last].copy(), "fltp", self.layout)
            part.sample_rate = self.rate
            part.pts, part.time_base = self.next + first, Fraction(1, self.rate)
            self.count += 1
            self.target.mux(self.stream.encode(part))
        self.next += samples.shape[1]

    def finish(self) -> int:
        """Write what waits; the number of pieces written."""
        if self.count:
            self.target.mux(self.stream.encode(None))
        return self.count


_STEPS = {0: (), 90: (("transpose", "clock"),), 180: (("hflip", ""), ("vflip", "")), 270: (("transpose", "cclock"),)}


class _Upright:
    """Mirrors and turns frames for display. One of another shape keeps it: it gets black bars."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.graph: Graph | None = None
        self.made_for: tuple[object, ...] = ()

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """The frame as it is shown, in the shape of `size`, to be scaled to it."""
        orientation, inner = orientation_of(frame), fit(displayed(frame), self.size, slack=SLACK)
        if orientation == UPRIGHT and inner == self.size:
            return frame
        look = (frame.width, frame.height, frame.format.name, orientation, inner)
        if self.graph is None or self.made_for != look:
            self.graph, self.made_for = self._graph(frame, orientation, inner), look
        self.graph.push(frame)
        upright = self.graph.pull()
        assert isinstance(upright, VideoFrame)
        return upright

    def _graph(self, frame: VideoFrame, orientation: Orientation, inner: tuple[int, int]) -> Graph:
        steps = [("hflip", "")] * orientation.is_mirrored + [*_STEPS[orientation.clockwise]]
        if inner != self.size:
            (width, height), (bars_width, bars_height) = inner, self.size
            middle = f"{(bars_width - width) // 2}:{(bars_height - height) // 2}"
            steps += [
                ("scale", f"{width}:{height}"),
                ("format", "yuv420p"),
                ("pad", f"{bars_width}:{bars_height}:{middle}"),
            ]
        graph = Graph()
        nodes: list[Any] = [
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=CLOCK),
            *(graph.add(*step) for step in steps),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph


def _size(container: InputContainer, source: VideoStream) -> tuple[int, int]:
    """Of the first frame on a screen, with even sides, as H.264 with 4:2:0 colour wants them.

    Leaves the container somewhere behind it.
    """
    screen = Screen(source)
    width, height = source.codec_context.width, source.codec_context.height
    with suppress(av.FFmpegError):
        for frame in container.decode(source):
            screen.note(frame)
            width, height = displayed(frame)
            break
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:  # its pixels are far wider than high
        smaller = min((MOST_PIXELS / (width * height)) ** 0.5, MOST_SIDE / max(width, height))
        width, height = int(width * smaller), int(height * smaller)
    return max(2, width // 2 * 2), max(2, height // 2 * 2)
