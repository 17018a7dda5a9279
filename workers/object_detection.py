"""Objects in sampled frames, by a YOLO of Ultralytics, and the tracks that join them."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from domain.artifacts.object_detection import ObjectDetectionV1
from domain.artifacts.object_track import ObjectTrackV1
from domain.errors import InvalidParameter, ModelUnavailable
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding, Frame
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, torch_device
from workers.memory import CPU
from workers.models import FoundModel, MissingModel, find_model, prepare_ultralytics, require_model
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome, Producer
from workers.tracking import LOWEST_CONFIDENCE, Tracker

LARGEST_SIDE = 1920
"""Frames are decoded no larger: the model scales them to its input size anyway."""
GPU_BATCH, SMALL_CPU_BATCH, SMALL = 16, 8, 416
"""Frames a call. On a CPU batches pay only up to 416 pixels (measured: half the time; above it they cost)."""


class DetectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "yolo11n.pt"
    """Weights wished for; what is at hand on this machine goes before a download."""
    every_ms: int = 500
    imgsz: int = 640
    """Input size of the model in pixels, a multiple of 32; exported models have their own."""
    confidence: float = 0.35
    """Boxes below are left out."""
    track: bool = False
    """Join the boxes of one thing. What moves by more than its own size within `every_ms` becomes several things."""


class _Loaded(NamedTuple):
    device: str
    model: Any
    """ultralytics.YOLO"""
    is_batchable: bool


class ObjectDetection(Producer):
    """Looks for the model's classes in frames `every_ms` apart."""

    task_type = "object_detection"
    name = "ultralytics"
    version = "3"
    shares_frames = True
    reuses_memory = True
    shares_batches = True

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the weights that the default profile would get here, without asking the hub."""
        found = find_model("detector", DetectionConfig().model, models, ask_hub=False)
        if not isinstance(found, MissingModel):
            with _lease(found, models):
                pass

    def describe(self, job: Job) -> Description:
        """Finds and loads the weights."""
        config = _config(job)
        found = _found(config, job.models)
        types = (ObjectDetectionV1.NAME, ObjectTrackV1.NAME)[: 2 if config.track else 1]
        with _lease(found, job.models) as lease:
            return Description(device=lease.device_name, artifact_types=types, model=found.identity)

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `object.detection` for each box, as a point in time, within a frame the surest first; then the tracks."""
        config = _config(job)
        with _lease(_found(config, job.models), job.models) as lease:
            yield from self._find(job, context, config, lease)

    def _find(
        self, job: Job, context: Context, config: DetectionConfig, lease: Lease[_Loaded]
    ) -> Iterator[Found]:
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(metrics={"has_video": 0.0, "frames": 0.0, "objects": 0.0})
            return
        total_ms = duration_ms_of(job.path)
        decoding = Decoding()
        frames = job.frames(
            every_ms=config.every_ms, max_side=LARGEST_SIDE, layout="bgr24", decoding=decoding
        )
        tracker = Tracker(every_ms=config.every_ms, confidence=config.confidence) if config.track else None
        looked = objects = tracks = 0
        fitting = Fitting(
            lease, most=lambda loaded: _batch_size(loaded, config), size=config.imgsz, wait=context.wait
        )
        look = _Look(config.imgsz, min(config.confidence, LOWEST_CONFIDENCE) if config.track else config.confidence)
        while some := list(islice(frames, fitting.batch)):
            context.progress(min(some[0].time_ms, total_ms), total_ms)
            # In one batch with others of another shape it would be padded to a square, and be looked at differently.
            results: list[Any] = fitting.over(some, look, alike=frozenset(frame.image.shape for frame in some))
            for frame, result in zip(some, results, strict=True):
                looked += 1
                for payload in _payloads(frame, result, config, tracker):
                    objects += 1
                    yield Found(ObjectDetectionV1.NAME, frame.time_ms, frame.time_ms, payload)
            context.progress(min(some[-1].time_ms, total_ms), total_ms)
        for tracks, found in enumerate(tracker.tracks() if tracker else (), 1):  # noqa: B007 — counted
            yield found
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "frames": float(looked),
                "objects": float(objects),
                "tracks": float(tracks),
                "damaged_packets": float(decoding.damaged),
                **fitting.metrics,
            }
        )

    def outcome(self) -> Outcome:
        """Frames looked at and boxes found."""
        return self._outcome


def _found(config: DetectionConfig, models: ModelPlaces) -> FoundModel:
    if find_spec("ultralytics") is None:
        raise ModelUnavailable("ultralytics is not installed", "pip install 'eioku[yolo]'")
    return require_model("detector", config.model, models)


def _lease(found: FoundModel, models: ModelPlaces) -> Lease[_Loaded]:
    prepare_ultralytics(models.models_dir)
    import ultralytics.models  # noqa: F401 — its imports are not part of the model's size

    device = torch_device(models)
    if found.path.suffix == ".tflite":
        device = CPU  # of the exported formats it alone does not run on a GPU
    loadable = Loadable(found.name, found.identity, (found.path,), lambda device: _load(found, device))
    return LEASES.lease(loadable, device, models)


def _load(found: FoundModel, device: str) -> _Loaded:
    from ultralytics.models import YOLO

    is_checkpoint = found.path.suffix == ".pt"
    try:
        # An exported file does not say what it is for.
        model = YOLO(str(found.path)) if is_checkpoint else YOLO(str(found.path), task="detect")
    except Exception as error:  # the library raises whatever its many loaders raise
        raise ModelUnavailable(f"{found.path} does not load: {error}", "Fetch the weights again") from error
    if model.task != "detect":
        raise ModelUnavailable(
            f"{found.path} is a model for {model.task}, not for detection",
            "Use detection weights such as yolo11n.pt",
        )
    if is_checkpoint and device != CPU:
        model.to(device)  # now, not at the first frame: its size is measured
    return _Loaded(device, model, is_checkpoint)


def _batch_size(loaded: _Loaded, config: DetectionConfig) -> int:
    if not loaded.is_batchable:
        return 1  # exported models mostly have a fixed batch of one
    if loaded.device != CPU:
        return GPU_BATCH
    return SMALL_CPU_BATCH if config.imgsz <= SMALL else 1


class _Look(msgspec.Struct, frozen=True):
    """How frames are looked at: what is looked at alike may go into one batch."""

    imgsz: int
    confidence: float
    """Boxes below are left out."""

    def __call__(self, loaded: _Loaded, frames: Sequence[Frame]) -> list[Any]:
        """A result for each frame."""
        found: list[Any] = loaded.model.predict(
            [frame.image for frame in frames],
            device=loaded.device,
            imgsz=self.imgsz,
            conf=self.confidence,
            verbose=False,
        )
        return found


def _payloads(
    frame: Frame, result: Any, config: DetectionConfig, tracker: Tracker | None
) -> Iterator[ObjectDetectionV1]:
    """The boxes that are sure enough; the tracker sees the others too."""
    boxes = result.boxes
    track_ids = tracker.follow(boxes) if tracker else {}
    corners = boxes.xyxyn.clamp(0, 1).cpu().tolist()
    for index, ((left, top, right, bottom), score, kind) in enumerate(
        zip(corners, boxes.conf.cpu().tolist(), boxes.cls.cpu().tolist(), strict=True)
    ):
        box = (round(left, 5), round(top, 5), round(right - left, 5), round(bottom - top, 5))
        label, confidence = str(result.names[int(kind)]).lower(), round(min(1.0, score), 4)
        track_id = track_ids.get(index)
        if tracker and track_id is not None:
            tracker.note(track_id, frame.time_ms, label, confidence, box)
        if score >= config.confidence:
            yield ObjectDetectionV1(
                label=label, confidence=confidence, box=box, frame_index=frame.index, track_id=track_id
            )


def _config(job: Job) -> DetectionConfig:
    try:
        config = msgspec.convert(dict(job.config), DetectionConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.every_ms < 1 or not 0 < config.confidence < 1:
        raise InvalidParameter("config", "every_ms must be at least 1 and confidence between 0 and 1")
    if config.imgsz % 32 or not 32 <= config.imgsz <= 4096:  # noqa: PLR2004
        raise InvalidParameter("config.imgsz", f"{config.imgsz} is not a multiple of 32 between 32 and 4096")
    return config
