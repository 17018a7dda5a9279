"""Frames as vectors of what they show, by an image-text model of transformers (CLIP, SigLIP)."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from application.messages import SourceSpan, TextVector
from domain.artifacts.embedding import packed
from domain.artifacts.frame_embedding import FrameEmbeddingV1
from domain.errors import InvalidParameter, ModelUnavailable
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding, Frame, Image
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, torch_device
from workers.memory import CPU
from workers.models import FoundModel, MissingModel, find_model, require_model
from workers.producer import Context, Description, Found, Job, Knowing, ModelPlaces, Outcome

LOOK_MS = 200
"""Frames are taken from those so far apart; so near a wanted moment is near enough."""
DECODED_SIDE = 640
"""Pixels of the longer side: the models look at squares of 224 to 384."""
CPU_BATCH, GPU_BATCH = 4, 32


class FrameEmbeddingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "openai/clip-vit-base-patch32"
    """Name of a CLIP or SigLIP model on the hub."""
    every_ms: int = 5000
    """Between two frames, besides the one in the middle of each scene."""


class _Loaded(NamedTuple):
    device: str
    model: Any
    """A transformers model with `get_image_features` and `get_text_features`."""
    pictures: Any
    """Its image processor."""
    tokenizer: Any


class FrameEmbedding(Knowing):
    """One vector for the frame in the middle of each scene, and one every `every_ms`."""

    task_type = "frame_embedding"
    name = "transformers"
    version = "2"
    needs_spans = ("scene",)
    shares_frames = True
    reuses_memory = True
    shares_batches = True
    space = "frame"

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the model of the default profile without asking the hub."""
        found = find_model("image_embedder", FrameEmbeddingConfig().model, models, ask_hub=False)
        if not isinstance(found, MissingModel) and find_spec("transformers") is not None:
            with _lease(found, models):
                pass

    def describe(self, job: Job) -> Description:
        """Finds and loads the model."""
        found = require_model("image_embedder", _config(job).model, job.models)
        with _lease(found, job.models) as lease:
            return Description(
                device=lease.device_name, artifact_types=(FrameEmbeddingV1.NAME,), model=found.identity
            )

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `frame.embedding` for each frame; none for a file without pictures."""
        found = require_model("image_embedder", _config(job).model, job.models)
        with _lease(found, job.models) as lease:
            yield from self._find(job, context, found, lease)

    def _find(
        self, job: Job, context: Context, found: FoundModel, lease: "Lease[_Loaded]"
    ) -> Iterator[Found]:
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(metrics={"has_video": 0.0, "frames": 0.0})
            return
        total_ms, decoding, embedded = duration_ms_of(job.path), Decoding(), 0
        frames = job.frames(every_ms=LOOK_MS, max_side=DECODED_SIDE, is_lazy=True, decoding=decoding)
        wanted = _wanted(_told(frames, total_ms, context), job.spans, _config(job).every_ms)
        fitting = Fitting(
            lease,
            most=lambda loaded: CPU_BATCH if loaded.device == CPU else GPU_BATCH,
            wait=context.wait,
        )
        digest = found.digest
        while some := list(islice(wanted, fitting.batch)):
            vectors = fitting.over([frame.image for frame in some], _of_pictures)
            for frame, vector in zip(some, vectors, strict=True):
                payload = FrameEmbeddingV1(
                    model=found.name,
                    model_digest=digest,
                    dim=len(vector),
                    frame_index=frame.index,
                    vector=packed(vector.tolist()),
                )
                yield Found(FrameEmbeddingV1.NAME, frame.time_ms, frame.time_ms, payload)
            embedded += len(some)
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "frames": float(embedded),
                "damaged_packets": float(decoding.damaged),
                **fitting.metrics,
            }
        )

    def outcome(self) -> Outcome:
        """How many frames there were."""
        return self._outcome

    def meaning_of(self, text: str, models: ModelPlaces) -> TextVector:
        """The vector of a query."""
        found = require_model("image_embedder", FrameEmbeddingConfig().model, models)
        with _lease(found, models) as lease:
            vector = Fitting(lease).run(lambda loaded: _of_text(loaded, text))
        return TextVector(model=found.name, model_digest=found.digest, vector=packed(vector.tolist()))


def _of_text(loaded: _Loaded, text: str) -> npt.NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        # To the full length, as SigLIP was trained; CLIP does not look at what is behind the end.
        tokens = loaded.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt")
        return _unit(loaded.model.get_text_features(**tokens.to(loaded.device)))[0]


def _of_pictures(loaded: _Loaded, images: Sequence[Image]) -> list[npt.NDArray[np.float32]]:
    import torch

    with torch.inference_mode():
        prepared = loaded.pictures(images=list(images), return_tensors="pt").to(loaded.device)
        return _unit(loaded.model.get_image_features(**prepared))


def _told(frames: Iterator[Frame], total_ms: int, context: Context) -> Iterator[Frame]:
    for frame in frames:
        context.progress(min(frame.time_ms, total_ms), total_ms)
        yield frame


def _wanted(frames: Iterator[Frame], scenes: Sequence[SourceSpan], every_ms: int) -> Iterator[Frame]:
    """The first frame at or after each multiple of `every_ms` and the middle of each scene, each frame once."""
    middles = sorted((scene.start_ms + scene.end_ms) // 2 for scene in scenes)
    due_ms = next_middle = 0
    for frame in frames:
        at_ms = frame.time_ms
        is_due = at_ms >= due_ms
        while next_middle < len(middles) and middles[next_middle] <= at_ms:
            is_due, next_middle = True, next_middle + 1
        if is_due:
            yield frame
        if at_ms >= due_ms:
            due_ms = (at_ms // every_ms + 1) * every_ms


def _unit(features: Any) -> list[npt.NDArray[np.float32]]:
    """N rows of length 1, shape (dim,). Newer versions of the library hand over the features inside an object."""
    import torch

    rows = features if isinstance(features, torch.Tensor) else features.pooler_output
    return list(torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy())


def _lease(found: FoundModel, models: ModelPlaces) -> "Lease[_Loaded]":
    try:
        import transformers  # noqa: F401 — its imports are not part of the model's size
    except ImportError as error:
        raise ModelUnavailable(
            f"the library transformers cannot be loaded: {error}", "install eioku[embed]"
        ) from error
    loadable = Loadable(found.name, found.identity, (found.path,), lambda device: _load(found, device))
    return LEASES.lease(loadable, torch_device(models), models)


def _load(found: FoundModel, device: str) -> _Loaded:
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    try:
        pictures, tokenizer, model = (
            kind.from_pretrained(str(found.path), local_files_only=True)
            for kind in (AutoImageProcessor, AutoTokenizer, AutoModel)
        )
    except Exception as error:  # the library raises whatever its many loaders raise
        raise ModelUnavailable(
            f"the image-text model in {found.path} cannot be loaded: {error}"[:500], "put a whole model there"
        ) from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise ModelUnavailable(
            f"{found.path} holds a {type(model).__name__}, which does not know both pictures and words",
            "put a CLIP or SigLIP model there",
        )
    return _Loaded(device, model.to(device).eval(), pictures, tokenizer)


def _config(job: Job) -> FrameEmbeddingConfig:
    try:
        config = msgspec.convert(dict(job.config), FrameEmbeddingConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.every_ms < LOOK_MS:
        raise InvalidParameter("config.every_ms", f"must be at least {LOOK_MS}")
    return config
