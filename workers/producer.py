"""What a producer is: the adapter between one model library and the artifacts it makes.

To add one: a module with a subclass of `Producer`, one line in `workers.PRODUCERS`. Libraries are imported inside
methods, so that listing the producers stays light.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol
from uuid import UUID

import msgspec

from application.messages import Fault, SourceSpan, SourceText, Space, TaskMessage, TextVector
from domain.artifacts.envelope import Payload
from domain.pipeline import task_type, track_of
from domain.run import ModelIdentity
from domain.video import FileFacts
from infrastructure.media.frames import Decoding, Frame, Layout, SampleFrames, sample_frames
from infrastructure.media.tracks import picture_of, sound_of

Device = Literal["auto", "cpu", "cuda"]


class ModelPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """Where weights may come from, in the order they are tried, and what they run on."""

    detector_weights: Path | None = None
    """EIOKU_DETECTOR_WEIGHTS: a file that Ultralytics loads (.pt, .onnx, .tflite, …)."""
    whisper_model: Path | None = None
    """EIOKU_WHISPER_MODEL: a folder with a CTranslate2 Whisper model."""
    places_model: Path | None = None
    """EIOKU_PLACES_MODEL: a ResNet checkpoint of Places365, its labels beside it."""
    face_detector: Path | None = None
    """EIOKU_FACE_DETECTOR: a YuNet model (.onnx)."""
    ocr_models: Path | None = None
    """EIOKU_OCR_MODELS: a folder with text models as PaddleOCR has them, a folder each."""
    text_embedder: Path | None = None
    """EIOKU_TEXT_EMBEDDER: a folder with a sentence-transformers model."""
    image_embedder: Path | None = None
    """EIOKU_IMAGE_EMBEDDER: a folder with a CLIP or SigLIP model as transformers saves it."""
    models_dir: Path | None = None
    """EIOKU_MODELS_DIR: weights under their own names; downloads from the hub land here too."""
    is_offline: bool = False
    """EIOKU_OFFLINE: never ask the hub."""
    hub_timeout_s: float = 10.0
    """How long the hub may take to answer before it counts as not there."""
    device: Device = "auto"
    """EIOKU_DEVICE: auto takes a CUDA GPU when there is one."""
    threads: int = 2
    """CPU threads a model may use."""
    vram_bytes: int | None = None
    """EIOKU_VRAM_BYTES: of a GPU that may be used by all together; None = most of it."""
    ram_bytes: int | None = None
    """EIOKU_MODEL_RAM_BYTES: for the models of one worker; None = a share of the machine's memory."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one task on a file that lies on this machine."""

    message: TaskMessage
    run_id: UUID
    path: Path
    models: ModelPlaces
    delivery: int = 1
    """The broker's count of deliveries, from 1."""
    texts: tuple[SourceText, ...] = ()
    """What was said and shown in the video, in order of start; only for producers that need it."""
    spans: tuple[SourceSpan, ...] = ()
    """When something was found in the video, in order of start; only for producers that need it."""
    pictures: Path
    """Where the API looks for pictures, see `infrastructure.media.pictures`."""
    sample: SampleFrames = sample_frames
    """Where frames come from: a pass of its own, or one that several jobs share (ADR-0017)."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The full parameters of the task, but for the one that says which track: see `track`."""
        key = task_type(self.message.task_type).track
        return {name: value for name, value in self.message.config.items() if name != key}

    @property
    def track(self) -> int | None:
        """The track of the file that was asked for, by its index in `video.metadata`; None: what `tracks_of` chooses."""
        return track_of(self.message.task_type, self.message.config)

    def picture_track(self) -> int | None:
        """The index of the picture track that is looked at; None for a file without pictures. Raises as `picture_of`."""
        return picture_of(self.path, self.track)

    def sound_track(self) -> int | None:
        """The index of the sound track that is heard; None for a file without sound. Raises as `sound_of`."""
        return sound_of(self.path, self.track)

    def frames(
        self,
        *,
        every_ms: int = 0,
        max_side: int | None = None,
        layout: Layout = "rgb24",
        is_lazy: bool = False,
        decoding: Decoding | None = None,
    ) -> Iterator[Frame]:
        """The pictures of the file, as `infrastructure.media.frames.sample_frames` describes them; call it once."""
        return self.sample(
            self.path,
            every_ms=every_ms,
            max_side=max_side,
            layout=layout,
            is_lazy=is_lazy,
            decoding=decoding,
            track=self.track,
        )


class Context(Protocol):
    """How a running job is seen and stopped."""

    def progress(self, done_ms: int, total_ms: int) -> None:
        """Tell how far the job is, in ms of the media; cheap, call it for every frame, segment or batch.

        Raises:
            JobCancelled: somebody cancelled the task; let it pass through.
        """

    def wait(self) -> None:
        """Tell that it is another job's turn, and nothing is new; raises as `progress`."""


class Found(NamedTuple):
    """One artifact, before it has an id."""

    artifact_type: str
    start_ms: int
    end_ms: int
    payload: Payload


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What will do the job, known before it starts; becomes the run's provenance."""

    device: str
    """ "cpu" or "cuda:0", as the process sees it, with the card behind it where that is known."""
    artifact_types: tuple[str, ...]
    """Everything that is looked for, so that an empty result counts as found nothing."""
    model: ModelIdentity | None = None
    language: str | None = None
    """The language asked for, when it is known beforehand."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known once everything was produced."""

    metrics: dict[str, float]
    """Counts and measures, named with their unit."""
    language: str | None = None
    """The language found or forced."""
    blake3: str | None = None
    """The three below are set by the metadata producer only."""
    size_bytes: int | None = None
    facts: FileFacts | None = None
    flaw: Fault | None = None
    """The file is damaged: what was found is kept, and the task fails with this."""


class Producer(ABC):
    """Makes artifacts of a media file.

    An instance does one job at a time: `describe`, then `produce` to its end, then `outcome`. Jobs may run in different
    threads, and other producers of the process at the same time. Models stay loaded between jobs, see `workers.leases`.
    """

    task_type: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[str]
    """Changes whenever the same input may give another result."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Types of the texts it works on instead of the file, which it then does not open."""
    needs_spans: ClassVar[tuple[str, ...]] = ()
    """Types of the artifacts whose spans it works on, beside the file."""
    shares_frames: ClassVar[bool] = False
    """It works on `job.frames`: what other such producers look at in the same video is decoded once (ADR-0017)."""
    reuses_memory: ClassVar[bool] = False
    """It asks for as much memory with every frame: the process keeps what is freed, 64 MiB at most (ADR-0025)."""
    shares_batches: ClassVar[bool] = False
    """What it has for its model goes into one batch with what jobs on other videos have (ADR-0024): several may run in
    the process, each with an instance of its own."""

    def warm(self, models: ModelPlaces) -> None:  # noqa: B027 — nothing to load is the common case
        """Load what most jobs need, so that the first job does not wait; missing models are no error here."""

    @abstractmethod
    def describe(self, job: Job) -> Description:
        """What will do this job.

        Raises:
            ModelUnavailable: no weights or library here; carries the remedy.
            InvalidParameter: the task's config cannot be honoured.
        """

    @abstractmethod
    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """What is in the file, in order of start within each artifact type.

        Raises:
            MediaMissing: the file is not there or may not be read.
            MediaUnreadable: the file is no media or too broken.
            JobCancelled: from `context`.
        """

    @abstractmethod
    def outcome(self) -> Outcome:
        """Figures of the last job, once `produce` is exhausted."""


class Knowing(Producer):
    """A producer that also says what queries mean, as its model sees them."""

    space: ClassVar[Space]
    """Which vectors its answers are compared with."""

    @abstractmethod
    def meaning_of(self, text: str, models: ModelPlaces) -> TextVector:
        """The vector of a query, with the model of the default profile; may be called while a job runs.

        Raises:
            ModelUnavailable: there is none here.
        """
