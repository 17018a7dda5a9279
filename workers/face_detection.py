"""Faces in sampled frames, each with what it looks like: YuNet or dlib's HOG, and dlib's 128 numbers a face."""

from collections.abc import Iterator
from math import hypot
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from domain.artifacts.face_detection import FaceDetectionV1
from domain.errors import InvalidParameter, ModelUnavailable
from domain.face_vectors import pack_half
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding, Image
from workers.face_models import FaceModels, require_face_models
from workers.leases import LEASES, Lease, Loadable
from workers.memory import CPU
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome, Producer

VECTOR_SPACE = "dlib-resnet-v1"
LARGEST_SIDE = 1920
"""Frames are decoded no larger."""
SMALLEST_EMBEDDED = 40
"""Pixels; what smaller faces look like is chance."""
FULL_SIZE = 160
"""Pixels from which a face does not get better."""
OVERLAP = 0.3
"""YuNet: of boxes that overlap more, the surest stays."""
PATCH = 24
"""Side in pixels of the picture by which a face is found unchanged."""
UNCHANGED = 0.9
"""Correlation of two such pictures from which the face is the same one, held still."""
NEAR = 0.5
"""Intersection over union of their boxes at least."""


class FaceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    every_ms: int = 1000
    side: int = 640
    """Longer side in pixels of the picture in which faces are looked for."""
    confidence: float = 0.7
    """YuNet only; faces below are left out."""


class _Box(NamedTuple):
    """In pixels of the decoded frame, inside of it."""

    left: float
    top: float
    width: float
    height: float


class _Face(NamedTuple):
    box: _Box
    points: tuple[tuple[float, float], ...]
    """Eye at the left of the picture, eye at the right, nose, corners of the mouth if known; pixels."""
    confidence: float


class _Seen(NamedTuple):
    """A face that was embedded."""

    box: _Box
    patch: npt.NDArray[np.float32]
    vector: str


class _Loaded(NamedTuple):
    found: FaceModels
    landmarks: Any
    """dlib.shape_predictor"""
    network: Any
    """dlib.face_recognition_model_v1"""
    hog: Any
    """dlib.fhog_object_detector, None with YuNet"""


class FaceDetection(Producer):
    """Looks for faces in frames `every_ms` apart. A face held still is embedded once."""

    task_type = "face_detection"
    name = "dlib"
    version = "3"
    shares_frames = True
    reuses_memory = True

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def describe(self, job: Job) -> Description:
        """Finds and loads the weights."""
        _config(job)
        with _lease(job.models) as lease:
            identity = lease.model.found.identity
        return Description(device=CPU, artifact_types=(FaceDetectionV1.NAME,), model=identity)

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `face.detection` for each face, as a point in time; within a frame from left to right."""
        with _lease(job.models) as lease:
            yield from self._find(job, context, lease.model)

    def _find(self, job: Job, context: Context, loaded: _Loaded) -> Iterator[Found]:
        config = _config(job)
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(metrics={"has_video": 0.0, "frames": 0.0, "faces": 0.0, "embedded": 0.0})
            return
        total_ms = duration_ms_of(job.path)
        decoding = Decoding()
        find = _finder(loaded, config)
        looked = faces = embedded = 0
        before: list[_Seen] = []
        for frame in job.frames(
            every_ms=config.every_ms, max_side=LARGEST_SIDE, layout="rgb24", decoding=decoding
        ):
            context.progress(min(frame.time_ms, total_ms), total_ms)
            looked += 1
            # dlib takes no rows with padding, as odd widths have.
            image = np.ascontiguousarray(frame.image)
            now: list[_Seen] = []
            for face in sorted(find(image), key=lambda face: face.box):
                faces += 1
                seen: _Seen | None = None
                if _is_comparable(face.box, image):
                    context.progress(min(frame.time_ms, total_ms), total_ms)
                    patch = _patch(image, face.box)
                    held = next((old for old in before if _is_unchanged(old, face.box, patch)), None)
                    embedded += held is None
                    seen = _Seen(face.box, patch, held.vector if held else _embed(loaded, image, face.box))
                    now.append(seen)
                payload = _payload(face, image, frame.index, seen)
                yield Found(FaceDetectionV1.NAME, frame.time_ms, frame.time_ms, payload)
            before = now
        context.progress(total_ms, total_ms)
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "frames": float(looked),
                "faces": float(faces),
                "embedded": float(embedded),
                "damaged_packets": float(decoding.damaged),
            }
        )

    def outcome(self) -> Outcome:
        """Frames looked at, faces found and embeddings computed."""
        return self._outcome


def _lease(models: ModelPlaces) -> Lease[_Loaded]:
    found = require_face_models(models)
    import cv2
    import dlib  # noqa: F401 — its imports are not part of the model's size

    cv2.setNumThreads(models.threads)
    weights = tuple(path for path in (found.detector, found.landmarks, found.network) if path)
    identity = found.identity
    loadable = Loadable(identity.name, identity, weights, lambda _: _load(found))
    return LEASES.lease(loadable, CPU, models)


def _load(found: FaceModels) -> _Loaded:
    import cv2
    import dlib

    try:
        if found.detector is not None:
            cv2.FaceDetectorYN.create(str(found.detector), "", (320, 320))
        landmarks = dlib.shape_predictor(str(found.landmarks))
        network = dlib.face_recognition_model_v1(str(found.network))
    except (RuntimeError, cv2.error) as error:
        raise ModelUnavailable(f"the face models do not load: {error}", "Fetch the files again") from error
    return _Loaded(
        found, landmarks, network, dlib.get_frontal_face_detector() if found.detector is None else None
    )


# ---- finding -----------------------------------------------------------------------------------------------------


def _finder(loaded: _Loaded, config: FaceConfig) -> Any:
    """A function from a picture to the faces in it, for all frames of one video."""
    import cv2

    detector = None
    if loaded.found.detector is not None:
        detector = cv2.FaceDetectorYN.create(
            str(loaded.found.detector), "", (320, 320), config.confidence, OVERLAP, 500
        )

    def find(image: Image) -> list[_Face]:
        height, width = image.shape[:2]
        scale = min(1.0, config.side / max(height, width))
        # dnn wants at least some pixels; a strip of a picture holds no face anyway.
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        # For a little smaller a mean of areas is no better, and takes five times as long.
        how = cv2.INTER_AREA if 2 * scale <= 1 else cv2.INTER_LINEAR
        small = image if scale == 1.0 else cv2.resize(image, size, interpolation=how)
        if detector is not None:
            return _by_yunet(detector, small, image)
        return _by_hog(loaded, small, image)

    return find


def _by_yunet(detector: Any, small: Any, image: Image) -> list[_Face]:
    import cv2

    height, width = image.shape[:2]
    detector.setInputSize((small.shape[1], small.shape[0]))
    rows = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))[1]
    x, y = width / small.shape[1], height / small.shape[0]
    faces = []
    for row in () if rows is None else rows.tolist():
        box = _inside(row[0] * x, row[1] * y, row[2] * x, row[3] * y, width, height)
        points = tuple((row[i] * x, row[i + 1] * y) for i in range(4, 14, 2))
        if box is not None:
            faces.append(_Face(box, points, min(1.0, row[14])))
    return faces


def _by_hog(loaded: _Loaded, small: Any, image: Image) -> list[_Face]:
    height, width = image.shape[:2]
    x, y = width / small.shape[1], height / small.shape[0]
    rectangles, scores, _ = loaded.hog.run(small, 0, 0.0)
    faces = []
    for rectangle, score in zip(rectangles, scores, strict=True):
        box = _inside(
            rectangle.left() * x,
            rectangle.top() * y,
            rectangle.width() * x,
            rectangle.height() * y,
            width,
            height,
        )
        if box is None:
            continue
        shape = loaded.landmarks(image, _rectangle(box))
        at = [(float(shape.part(i).x), float(shape.part(i).y)) for i in range(5)]
        # Two corners of each eye, the eye at the right of the picture first, then the base of the nose.
        right, left = (tuple((a + b) / 2 for a, b in zip(at[i], at[i + 1], strict=True)) for i in (0, 2))
        points = ((left[0], left[1]), (right[0], right[1]), at[4])
        # The score is a distance to a border: 0 at the border, about 1 for a clear face.
        faces.append(_Face(box, points, max(0.0, min(1.0, 0.5 + score / 2))))
    return faces


def _inside(left: float, top: float, width: float, height: float, w: int, h: int) -> _Box | None:  # noqa: PLR0917 - a box, and the frame it is cut to
    x0, y0, x1, y1 = max(0.0, left), max(0.0, top), min(float(w), left + width), min(float(h), top + height)
    return _Box(x0, y0, x1 - x0, y1 - y0) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


# ---- looking -----------------------------------------------------------------------------------------------------


def _is_comparable(box: _Box, image: Image) -> bool:
    """Whether it is large enough, and not cut off at a side: half a face looks like somebody else."""
    is_large = min(box.width, box.height) >= SMALLEST_EMBEDDED
    return is_large and box.left >= 1 and box.left + box.width <= image.shape[1] - 1


def _rectangle(box: _Box) -> Any:
    import dlib

    left, top = round(box.left), round(box.top)
    return dlib.rectangle(left, top, left + round(box.width), top + round(box.height))


def _embed(loaded: _Loaded, image: Image, box: _Box) -> str:
    shape = loaded.landmarks(image, _rectangle(box))
    return pack_half(list(loaded.network.compute_face_descriptor(image, shape)))


def _crop(image: Image, box: _Box, side: int) -> Any:
    """The face in grey, square, uint8."""
    import cv2

    left, top = int(box.left), int(box.top)
    part = image[top : top + max(1, int(box.height)), left : left + max(1, int(box.width))]
    return cv2.resize(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), (side, side), interpolation=cv2.INTER_AREA)


def _patch(image: Image, box: _Box) -> npt.NDArray[np.float32]:
    """The face in small, with mean 0 and norm 1, so that the product of two is their correlation."""
    patch = _crop(image, box, PATCH).astype(np.float32)
    patch -= patch.mean()
    normed: npt.NDArray[np.float32] = patch / max(1e-6, float(np.linalg.norm(patch)))
    return normed


def _is_unchanged(old: _Seen, box: _Box, patch: npt.NDArray[np.float32]) -> bool:
    return _overlap(old.box, box) >= NEAR and float((old.patch * patch).sum()) >= UNCHANGED


def _overlap(a: _Box, b: _Box) -> float:
    width = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    height = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    both = max(0.0, width) * max(0.0, height)
    return both / (a.width * a.height + b.width * b.height - both)


def _quality(image: Image, face: _Face) -> float:
    """Sharpness × frontality × size, each up to 1; a profile has a frontality of 0.1."""
    import cv2

    variance = float(cv2.Laplacian(_crop(image, face.box, 96), cv2.CV_64F).var())
    sharpness = variance / (variance + 100)
    (x0, y0), (x1, y1), (nose_x, nose_y) = face.points[:3]
    between = max(1.0, hypot(x1 - x0, y1 - y0))
    # Where the nose is along the line of the eyes: 0 in the middle, ±0.5 below an eye.
    along = ((nose_x - (x0 + x1) / 2) * (x1 - x0) + (nose_y - (y0 + y1) / 2) * (y1 - y0)) / between**2
    frontality = max(0.1, 1 - 2 * abs(along))
    size = min(1.0, min(face.box.width, face.box.height) / FULL_SIZE)
    return sharpness * frontality * size


def _payload(face: _Face, image: Image, index: int, seen: _Seen | None) -> FaceDetectionV1:
    height, width = image.shape[:2]
    box = face.box
    return FaceDetectionV1(
        confidence=round(face.confidence, 4),
        box=(
            round(box.left / width, 5),
            round(box.top / height, 5),
            round(box.width / width, 5),
            round(box.height / height, 5),
        ),
        frame_index=index,
        landmarks=tuple((_unit(x / width), _unit(y / height)) for x, y in face.points),
        quality=round(_quality(image, face), 4),
        vector=seen.vector if seen else None,
        vector_space=VECTOR_SPACE if seen else None,
    )


def _unit(value: float) -> float:
    return round(max(0.0, min(1.0, value)), 5)


def _config(job: Job) -> FaceConfig:
    try:
        config = msgspec.convert(dict(job.config), FaceConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.every_ms < 1 or not 0 < config.confidence < 1:
        raise InvalidParameter("config", "every_ms must be at least 1 and confidence between 0 and 1")
    if not 64 <= config.side <= 4096:  # noqa: PLR2004
        raise InvalidParameter("config.side", f"{config.side} is not between 64 and 4096")
    return config
