"""What kind of place stretches of a video show, by a ResNet trained on Places365."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby, islice
from math import ceil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from domain.artifacts.place_classification import Alternative, PlaceClassificationV1
from domain.errors import InvalidParameter, ModelUnavailable
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding, Frame
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, torch_device
from workers.memory import CPU
from workers.models import FoundModel, MissingModel, find_model, require_model
from workers.places_weights import ENVIRONMENTS, LABELS
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome, Producer
from workers.screen_text import COLUMNS, ROWS, Watch

ARCHITECTURES = ("resnet18", "resnet50")
SHORT_SIDE, INPUT_SIDE, DECODED_SIDE = 256, 224, 512
"""Pixels: the picture is squeezed to a square of the first and its middle of the second is looked at, as in training."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1], as in training."""
CPU_BATCH, GPU_BATCH = 4, 32
WATCH_MS = 250
"""Between two frames that are watched for a cut, at most; they are not classified."""
SHORTEST_MS = 600
"""Between two looks however often it cuts, as the shortest scene of `workers.scene_detection`."""
Scores = npt.NDArray[np.float64]
Environment = Literal["indoor", "outdoor"]


class PlaceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "resnet18"
    """Architecture wished for: resnet18 or resnet50."""
    every_ms: int = 3000
    """Between two looks within a scene; each scene gets one of its own."""
    confidence: float = 0.1
    """Stretches whose best label scores less are left out."""
    alternatives: int = 4
    """Labels given after the best one."""


class _Loaded(NamedTuple):
    device: str
    model: Any
    """A torch module: (n, 3, 224, 224) normalised → (n, classes) logits."""
    labels: tuple[str, ...]
    environments: tuple[Environment, ...] | None


class Stretch:
    """Neighbouring looks with the same best label; the scores are their mean."""

    def __init__(self, frame: Frame, scores: Scores) -> None:
        self.start_ms, self.frame_index = frame.time_ms, frame.index
        self.best = int(scores.argmax())
        self._sum, self._looks = scores.copy(), 1

    def takes(self, scores: Scores) -> bool:
        """Add a look if it shows the same place; whether it does."""
        if int(scores.argmax()) != self.best:
            return False
        self._sum += scores
        self._looks += 1
        return True

    @property
    def scores(self) -> Scores:
        """Mean over all looks, shape (classes,), sum 1. The best label of each is the best of the mean."""
        return self._sum / self._looks


class PlaceDetection(Producer):
    """Looks at each scene, and every `every_ms` within it; neighbouring looks of equal best label are one artifact."""

    task_type = "place_detection"
    name = "places365"
    version = "3"
    shares_frames = True
    reuses_memory = True
    shares_batches = True

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the checkpoint that the default profile would get here, without asking the hub."""
        found = find_model("places", PlaceConfig().model, models, ask_hub=False)
        if not isinstance(found, MissingModel):
            with _lease(found, models):
                pass

    def describe(self, job: Job) -> Description:
        """Finds and loads the checkpoint."""
        found = _model(job)
        with _lease(found, job.models) as lease:
            return Description(
                device=lease.device_name, artifact_types=(PlaceClassificationV1.NAME,), model=found.identity
            )

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `place.classification` for each stretch, until the next one starts."""
        with _lease(_model(job), job.models) as lease:
            yield from self._find(job, context, lease)

    def _find(self, job: Job, context: Context, lease: Lease[_Loaded]) -> Iterator[Found]:
        config, loaded = _config(job), lease.model
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(metrics={"has_video": 0.0, "frames": 0.0, "places": 0.0})
            return
        total_ms, decoding = duration_ms_of(job.path), Decoding()
        watch_ms = config.every_ms // ceil(config.every_ms / WATCH_MS)
        frames = job.frames(every_ms=watch_ms, max_side=DECODED_SIDE, is_lazy=True, decoding=decoding)
        fitting = Fitting(
            lease,
            most=lambda loaded: CPU_BATCH if loaded.device == CPU else GPU_BATCH,
            wait=context.wait,
        )
        stretch: Stretch | None = None
        looked = places = 0
        seen = looks_of(_told(frames, total_ms, context), config.every_ms)
        while some := list(islice(seen, fitting.batch)):
            looks = fitting.over([frame.image for frame in some], classify)
            for frame, scores in zip(some, looks, strict=True):
                looked += 1
                if stretch is not None and stretch.takes(scores):
                    continue
                if stretch is not None and (found := _found(stretch, frame.time_ms, config, loaded)):
                    places += 1
                    yield found
                stretch = Stretch(frame, scores)
        end_ms = round(decoding.end * 1000) if decoding.is_cut_short or not total_ms else total_ms
        end_ms = max(end_ms, stretch.start_ms if stretch else 0)
        context.progress(min(end_ms, total_ms), total_ms)
        if stretch is not None and (found := _found(stretch, end_ms, config, loaded)):
            places += 1
            yield found
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "frames": float(looked),
                "places": float(places),
                "damaged_packets": float(decoding.damaged),
                **fitting.metrics,
            }
        )

    def outcome(self) -> Outcome:
        """Frames looked at and stretches found."""
        return self._outcome


def _told(frames: Iterator[Frame], total_ms: int, context: Context) -> Iterator[Frame]:
    for frame in frames:
        context.progress(min(frame.time_ms, total_ms), total_ms)
        yield frame


def looks_of(frames: Iterator[Frame], every_ms: int) -> Iterator[Frame]:
    """The frames to classify: the first of each scene, and the first at or after each multiple of `every_ms`."""
    watch, due_ms, last_ms, is_new = Watch(), 0, -SHORTEST_MS, False
    for frame in frames:
        is_new = watch.look(frame.brightness(COLUMNS, ROWS)).is_cut or is_new
        is_worth_it = is_new and frame.time_ms - last_ms >= SHORTEST_MS
        if is_worth_it or frame.time_ms >= due_ms:
            due_ms = (frame.time_ms // every_ms + 1) * every_ms
            last_ms, is_new = frame.time_ms, False
            yield frame


def classify(loaded: _Loaded, images: Sequence[npt.NDArray[np.uint8]]) -> list[Scores]:
    """Softmax of each RGB picture (height, width, 3): shape (classes,), sum 1."""
    import torch

    with torch.inference_mode():
        # Those of other videos may have another size.
        pictures = [
            normalised(torch.from_numpy(np.stack(list(alike))).to(loaded.device))
            for _, alike in groupby(images, key=np.shape)
        ]
        logits = loaded.model(torch.cat(pictures))
        return list(torch.softmax(logits.double(), dim=1).cpu().numpy())


def normalised(pictures: Any) -> Any:
    """uint8 tensor (n, height, width, 3) → float tensor (n, 3, 224, 224), scaled, cropped and normalised."""
    import torch

    squares = torch.nn.functional.interpolate(
        pictures.permute(0, 3, 1, 2).float() / 255,
        size=(SHORT_SIDE, SHORT_SIDE),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    edge = (SHORT_SIDE - INPUT_SIDE) // 2
    middle = squares[:, :, edge : edge + INPUT_SIDE, edge : edge + INPUT_SIDE]
    mean, deviation = (
        torch.tensor(values, device=middle.device).view(1, 3, 1, 1) for values in (MEAN, DEVIATION)
    )
    return (middle - mean) / deviation


def _found(stretch: Stretch, end_ms: int, config: PlaceConfig, loaded: _Loaded) -> Found | None:
    scores = stretch.scores
    if scores[stretch.best] < config.confidence:
        return None
    best, *others = np.argsort(-scores, kind="stable")[: config.alternatives + 1].tolist()
    payload = PlaceClassificationV1(
        label=loaded.labels[best],
        confidence=_rounded(scores[best]),
        alternatives=tuple(
            Alternative(label=loaded.labels[other], confidence=_rounded(scores[other])) for other in others
        ),
        environment=_environment([best, *others], scores, loaded.environments),
        frame_index=stretch.frame_index,
    )
    return Found(PlaceClassificationV1.NAME, stretch.start_ms, end_ms, payload)


def _rounded(score: float) -> float:
    return round(min(1.0, float(score)), 4)


def _environment(
    top: list[int], scores: Scores, environments: tuple[Environment, ...] | None
) -> Environment | None:
    """Where the labels given lie, weighed by their scores."""
    if environments is None:
        return None
    indoors = sum(scores[index] for index in top if environments[index] == "indoor")
    return "indoor" if 2 * indoors >= sum(scores[index] for index in top) else "outdoor"


# ---- loading -----------------------------------------------------------------------------------------------------


def _model(job: Job) -> FoundModel:
    if find_spec("torchvision") is None:
        raise ModelUnavailable("torchvision is not installed", "pip install 'eioku[yolo]'")
    return require_model("places", _config(job).model, job.models)


def _lease(found: FoundModel, models: ModelPlaces) -> Lease[_Loaded]:
    import torchvision  # noqa: F401 — its imports are not part of the model's size

    # The labels beside the checkpoint are part of what is loaded.
    key = (found.identity, found.path.parent)
    loadable = Loadable(found.name, key, (found.path,), lambda device: _load(found, device))
    return LEASES.lease(loadable, torch_device(models), models)


def _load(found: FoundModel, device: str) -> _Loaded:
    import torch
    from torchvision.models import resnet18, resnet50

    try:
        checkpoint = torch.load(found.path, map_location="cpu", weights_only=True)
        weights = {
            name.removeprefix("module."): value
            for name, value in checkpoint.get("state_dict", checkpoint).items()
        }
        classes = len(weights["fc.bias"])
        # The file's name is not always that of its architecture: only the deeper one has a third convolution.
        build = resnet50 if "layer1.0.conv3.weight" in weights else resnet18
        model = build(num_classes=classes)
        model.load_state_dict(weights)
    except Exception as error:  # whatever the library raises for files of all kinds
        raise ModelUnavailable(
            f"{found.path} does not load as a Places365 ResNet: {error}"[:500], "Fetch the checkpoint again"
        ) from error
    labels, environments = labels_of(found.path.parent, classes)
    return _Loaded(device, model.to(device).eval(), labels, environments)


def labels_of(folder: Path, classes: int) -> tuple[tuple[str, ...], tuple[Environment, ...] | None]:
    """(labels, indoor or outdoor) in the order of the classes, from the files beside the checkpoint.

    Raises:
        ModelUnavailable: they do not fit the checkpoint.
    """
    lines = _lines(folder / LABELS)
    labels = tuple(name[3:].replace("_", " ") for name, _ in lines)
    if len(labels) != classes or any(number != place for place, (_, number) in enumerate(lines)):
        raise ModelUnavailable(
            f"{folder / LABELS} has not the {classes} labels of the checkpoint", "Fetch both files again"
        )
    if not (folder / ENVIRONMENTS).is_file():
        return labels, None
    marks = _lines(folder / ENVIRONMENTS)
    if [name for name, _ in marks] != [name for name, _ in lines]:
        raise ModelUnavailable(
            f"{folder / ENVIRONMENTS} does not list the labels of {LABELS}", "Fetch both files again"
        )
    return labels, tuple("indoor" if mark == 1 else "outdoor" for _, mark in marks)


def _lines(path: Path) -> list[tuple[str, int]]:
    """("/k/kitchen", 203) of each line; the label of that class is "kitchen"."""
    try:
        pairs = [line.rsplit(" ", 1) for line in path.read_text().splitlines() if line.strip()]
        return [(name, int(number)) for name, number in pairs]
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path} cannot be read: {error}", "Fetch the file again") from error


def _config(job: Job) -> PlaceConfig:
    try:
        config = msgspec.convert(dict(job.config), PlaceConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.model not in ARCHITECTURES:
        raise InvalidParameter("config.model", f"{config.model!r} is none of {', '.join(ARCHITECTURES)}")
    if config.every_ms < 1 or not 0 <= config.confidence < 1 or not 0 <= config.alternatives <= 20:  # noqa: PLR2004
        raise InvalidParameter(
            "config", "every_ms must be at least 1, confidence in [0, 1), alternatives 0 to 20"
        )
    return config
