"""Cutting a stretch out of a video, exact to the frame and sample, as an mp4 that plays everywhere."""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from domain.errors import JobCancelled, MediaUnreadable
from infrastructure.media.mixing import Mixer
from infrastructure.media.orientation import UPRIGHT, Orientation, Screen, displayed, fit, orientation_of
from infrastructure.media.source import MOST_PIXELS, MOST_SIDE, open_media, origin, seek_before
from infrastructure.media.tracks import picture_track, sound_of, tracks_of

CLOCK = Fraction(1, 90_000)
"""Time base of the pictures written: every frame rate in use is near a whole number of its ticks."""
SLACK = 2
"""Pixels that a side may be off without black bars: sides are made even, and pixels need not be square."""
ROOM = Fraction(1, 2)
"""Seconds that a container's streams may be interleaved apart: after that much silence a stream counts as ended."""


def cut(path: Path, out: Path, *, start_ms: int, end_ms: int, should_stop: Callable[[], bool]) -> None:
    """Write [start_ms, end_ms) of `path` to `out` as mp4: H.264 and AAC, beginning at 0, index in front.

    The picture on screen at `start_ms` comes first, also when its frame began before. A file with only sound gives
    one with only sound. What lies behind the end of the file is not there; `should_stop` is asked once a packet.

    Raises:
        MediaMissing, MediaUnreadable: no media, or nothing in that stretch can be decoded.
        JobCancelled: `should_stop` said so.
    """
    with open_media(path) as source:
        begin = origin(source)
        window = (begin + Fraction(start_ms, 1000), begin + Fraction(end_ms, 1000))
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
                cutters[picture.index] = _Pictures(target, picture, *window, size=_size(source, picture))
            if sound is not None:
                cutters[sound.index] = _Sound(target, sound, *window)
            seek_before(source, picture or streams[0], window[0])
            try:
                _decode(source, streams, cutters, window[1], should_stop)
                count = sum(cutter.finish() for cutter in cutters.values())
            except av.FFmpegError as error:
                raise MediaUnreadable(f"{path} cannot be cut: {error.strerror}") from error
        if not count:
            raise MediaUnreadable(f"nothing between {start_ms} and {end_ms} ms of {path} can be decoded")


def _decode(
    source: InputContainer,
    streams: list[Any],
    cutters: "dict[int, _Pictures | _Sound]",
    end: Fraction,
    should_stop: Callable[[], bool],
) -> None:
    ended: set[int] = set()
    for packet in source.demux(streams):
        if should_stop():
            raise JobCancelled("nobody waits for the clip any more")
        cutter = cutters[packet.stream.index]
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue  # a damaged packet costs its own frames only
        for frame in frames:
            if isinstance(frame, VideoFrame | AudioFrame) and not cutter.take(frame):
                ended.add(packet.stream.index)
        if packet.dts is not None and packet.time_base and packet.dts * packet.time_base > end + ROOM:
            ended.add(packet.stream.index)
        if len(ended) == len(cutters):
            return


class _Pictures:
    """Takes decoded frames, writes those of the window."""

    def __init__(
        self, target: OutputContainer, source: VideoStream, start: Fraction, end: Fraction, *, size: tuple[int, int]
    ) -> None:
        self.target, self.source, self.start, self.end = target, source, start, end
        self.rate = Fraction(source.average_rate or source.guessed_rate or 25)
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
        if frame.pts is None:
            time = self.held[1] + 1 / self.rate if self.held else self.start
        else:
            time = frame.pts * Fraction(frame.time_base or self.source.time_base or CLOCK)
        if time >= self.end:
            return False
        # The newest frame waits: only the one after it tells whether it is on screen when the window opens.
        if self.held is not None and time > self.start:
            self._write(*self.held)
        self.held = (frame, time)
        return True

    def finish(self) -> int:
        """Write what waits; the number of frames written."""
        if self.held is not None:
            frame, time = self.held
            self._write(frame, time)
            # A lone picture of a slide show must last: shown again where the window ends.
            again = self.end - 1 / self.rate
            if again - max(time, self.start) > 2 / self.rate:
                self._write(frame, again)
        if self.count:
            self._mux(self.stream.encode(None))
        if self.packet is not None:
            last = max(1, round((self.end - self.start) / CLOCK) - self.last)
            self.packet.duration = min(last, max(1, round(1 / self.rate / CLOCK)))
            self.target.mux(self.packet)
        return self.count

    def _write(self, frame: VideoFrame, time: Fraction) -> None:
        pts = max(0, round((time - self.start) / CLOCK))
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

    def __init__(self, target: OutputContainer, source: AudioStream, start: Fraction, end: Fraction) -> None:
        self.target, self.source, self.start, self.end = target, source, start, end
        rate = min(source.codec_context.sample_rate or 48_000, 48_000)
        self.rate = rate if rate in (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000) else 48_000
        layout: Literal["mono", "stereo"] = "mono" if source.codec_context.channels == 1 else "stereo"
        self.stream: AudioStream = target.add_stream("aac", rate=self.rate, layout=layout)
        self.mixer = Mixer(layout, self.rate)
        self.layout = layout
        self.next: int | None = None
        self.count = 0

    def take(self, frame: VideoFrame | AudioFrame) -> bool:
        """Whether more may come."""
        assert isinstance(frame, AudioFrame)
        if frame.pts is not None and frame.time_base is not None:
            place = round((frame.pts * frame.time_base - self.start) * self.rate)
            # Timestamps of sound wander by rounding; only a real jump moves the count, and never back.
            if self.next is None or place - self.next > self.rate // 20:
                self.next = place
            elif self.next - place > self.rate // 20:
                return True  # it lies over what is there already, as at a splice
        if self.next is None:
            self.next = 0
        most = round((self.end - self.start) * self.rate)
        for samples in self.mixer.take(frame):
            first, last = max(0, -self.next), min(samples.shape[1], most - self.next)
            if first < last:
                part = AudioFrame.from_ndarray(samples[:, first:last].copy(), "fltp", self.layout)
                part.sample_rate = self.rate
                part.pts, part.time_base = self.next + first, Fraction(1, self.rate)
                self.count += 1
                self.target.mux(self.stream.encode(part))
            self.next += samples.shape[1]
        return self.next < most

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
