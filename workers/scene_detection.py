"""Stretches between hard cuts, by PySceneDetect on frames that we decode: exact times, variable frame rates included."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from domain.artifacts.scene import SceneV1
from domain.errors import InvalidParameter
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding
from workers.producer import Context, Description, Found, Job, Outcome, Producer

if TYPE_CHECKING:
    from scenedetect import FrameTimecode
    from scenedetect.detector import SceneDetector

MICROSECONDS = Fraction(1, 1_000_000)
RECENT_FRAMES = 500
"""Scores kept to look up a cut's own: detectors tell of a cut some frames late."""


class SceneConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    detector: str = "content"
    """content: change from frame to frame; adaptive: the same against its neighbourhood, steadier in fast motion."""
    threshold: float = 27.0
    """Content: mean change of hue, saturation and brightness, 0 to 255. Adaptive: ratio to the neighbours' mean."""
    width: int = 256
    """Longer side of the picture that is compared, pixels."""
    min_scene_ms: int = 600
    """Shorter scenes are joined with their neighbours: flashes are no cuts."""


class SceneDetection(Producer):
    """Splits a video at its hard cuts. The stretch before the first is scene 0, the last ends with the video."""

    task_type = "scene_detection"
    name = "pyscenedetect"
    version = "2"
    shares_frames = True

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: object) -> None:  # noqa: ARG002 — there is no model, only slow imports
        """Import OpenCV."""
        import scenedetect  # noqa: F401

    def describe(self, job: Job) -> Description:
        """Needs no model."""
        _config(job)
        return Description(device="cpu", artifact_types=(SceneV1.NAME,))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `scene` for each stretch; none for a file without pictures."""
        config = _config(job)
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(metrics={"has_video": 0.0, "scenes": 0.0, "frames": 0.0})
            return
        duration_ms = duration_ms_of(job.path)
        decoding = Decoding()
        index, start_ms, score = 0, 0, None
        for cut_ms, cut_score in _cuts(job, config, duration_ms, decoding, context):
            yield _scene(config, index, start_ms, cut_ms, score)
            index, start_ms, score = index + 1, cut_ms, cut_score
        decoded_ms = round(decoding.end * 1000)
        end_ms = decoded_ms if decoding.is_cut_short or not duration_ms else duration_ms
        yield _scene(config, index, start_ms, max(end_ms, start_ms), score)
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "scenes": float(index + 1),
                "frames": float(decoding.decoded),
                "damaged_packets": float(decoding.damaged),
            }
        )

    def outcome(self) -> Outcome:
        """Frames, scenes and damaged packets."""
        return self._outcome


def _scene(config: SceneConfig, index: int, start_ms: int, end_ms: int, score: float | None) -> Found:
    return Found(
        SceneV1.NAME, start_ms, end_ms, SceneV1(scene_index=index, method=config.detector, score=score)
    )


def _cuts(
    job: Job, config: SceneConfig, duration_ms: int, decoding: Decoding, context: Context
) -> Iterator[tuple[int, float | None]]:
    """(ms, score) of each cut: the time of the first frame after it. A change of the picture's size is a cut."""
    from scenedetect import FrameTimecode
    from scenedetect.common import Timecode

    detector, cut_ms = _detector(config), 0
    look: tuple[tuple[int, ...], ...] = ()
    scores: deque[tuple[int, float]] = deque(maxlen=RECENT_FRAMES)
    last = None
    for frame in job.frames(max_side=config.width, layout="bgr24", decoding=decoding):
        at_ms = frame.time_ms
        context.progress(at_ms, max(duration_ms, at_ms))
        before, look = look, (frame.screen, frame.image.shape)
        if last is not None and before != look:
            # A detector compares pictures of one size only.
            yield from ((_ms(cut), _score(scores, _ms(cut))) for cut in detector.post_process(last))
            if at_ms - cut_ms >= config.min_scene_ms:
                yield (cut_ms := at_ms), None
            detector = _detector(config)
        # The rate only matters for lengths given in frames; ours are in seconds.
        last = FrameTimecode(Timecode(pts=round(frame.time / MICROSECONDS), time_base=MICROSECONDS), fps=25.0)
        cuts = detector.process_frame(last, frame.image)
        scores.append((at_ms, getattr(detector, "_frame_score", None) or 0.0))
        for cut in cuts:
            yield (cut_ms := _ms(cut)), _score(scores, cut_ms)
    if last is not None:
        yield from ((_ms(cut), _score(scores, _ms(cut))) for cut in detector.post_process(last))


def _ms(timecode: "FrameTimecode") -> int:
    milliseconds: int = round(timecode.seconds * 1000)
    return milliseconds


def _score(scores: deque[tuple[int, float]], at_ms: int) -> float | None:
    return next((round(float(score), 2) for time_ms, score in reversed(scores) if time_ms == at_ms), None)


def _detector(config: SceneConfig) -> "SceneDetector":
    from scenedetect import AdaptiveDetector, ContentDetector

    shortest_s = config.min_scene_ms / 1000
    if config.detector == "adaptive":
        return AdaptiveDetector(adaptive_threshold=config.threshold, min_scene_len=shortest_s)
    return ContentDetector(threshold=config.threshold, min_scene_len=shortest_s)


def _config(job: Job) -> SceneConfig:
    try:
        config = msgspec.convert(dict(job.config), SceneConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.detector not in {"content", "adaptive"}:
        raise InvalidParameter("config.detector", f"{config.detector!r} is neither content nor adaptive")
    if config.width < 16 or config.threshold <= 0 or config.min_scene_ms < 0:  # noqa: PLR2004
        raise InvalidParameter(
            "config", "width must be 16 or more, threshold positive, min_scene_ms not negative"
        )
    return config
