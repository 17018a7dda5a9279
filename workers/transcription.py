"""Speech as text with a time for every word, by faster-whisper."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import structlog

from domain.artifacts.transcript_segment import TranscriptSegmentV1
from domain.errors import InvalidParameter, ModelUnavailable
from infrastructure.media.audio import RATE, Sound, read_sound
from infrastructure.media.clock import duration_ms_of
from workers.cublas import WHEEL, cublas_problem
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, chosen_device
from workers.memory import CPU
from workers.models import FoundModel, MissingModel, find_model, require_model
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome
from workers.sharing import Shareable, Shared
from workers.speech_pieces import WINDOW_S, Piece, pieces
from workers.speech_text import Heard, Hearing, Segment, language_of, listen

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

log = structlog.get_logger(__name__)

VOTERS = 5
"""Pieces of speech, some two minutes, that decide on the language."""
SHARE_FROM_MS = 60_000
"""Sound that is longer is worth the help of other workers."""
GPU_BATCH = 8


class TranscriptionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "base"
    """Size or name of the model wished for; what is at hand on this machine goes before a download."""
    beam_size: int = 1
    min_silence_ms: int = 500
    """Silence that ends a stretch of speech."""
    piece_s: int = 28
    """Speech that the model hears at once, in seconds."""
    batch_size: int = 0
    """Pieces that go through the model together; 0 = 8 on a GPU, 1 on a CPU."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a helper must have to hear pieces as the worker does that shares them."""

    version: str
    digest: str
    """Of the model's weights."""
    device: str
    """ "cpu" or "cuda"."""
    model: str
    """As the task wishes for it, to find it by; `language` likewise."""
    language: str | None
    how: Hearing


class Transcription(Shareable):
    """Transcribes one sound track, piece by piece. Deterministic: no sampling, no context carried over."""

    task_type = "transcription"
    name = "faster-whisper"
    version = "3"

    def __init__(self) -> None:
        self._gpu_works = True
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the model that the default profile would get here, without asking the hub."""
        found = find_model("whisper", TranscriptionConfig().model, models, ask_hub=False)
        if not isinstance(found, MissingModel):
            with self._lease(found, models):
                pass

    def describe(self, job: Job) -> Description:
        """Finds and loads the model."""
        config, language = _config(job), _language(job)
        found = require_model("whisper", config.model, job.models, language=language)
        with self._lease(found, job.models) as lease:
            return Description(
                device=lease.device_name,
                artifact_types=(TranscriptSegmentV1.NAME,),
                model=found.identity,
                language=language if lease.model.model.is_multilingual else "en",
            )

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `transcript.segment` for each stretch of speech; none for a file without sound or speech."""
        found = require_model("whisper", _config(job).model, job.models, language=_language(job))
        with self._lease(found, job.models) as lease:
            yield from self._find(job, context, found, lease)

    def _find(
        self, job: Job, context: Context, model: FoundModel, lease: "Lease[WhisperModel]"
    ) -> Iterator[Found]:
        config = _config(job)
        fitting = _fitting(lease, config.batch_size)
        language = _language(job) if lease.model.model.is_multilingual else "en"
        track = job.sound_track()
        if track is None:
            self._outcome = Outcome(
                metrics={"has_audio": 0.0, "segments": 0.0, "words": 0.0, "audio_seconds": 0.0}
            )
            return
        progress = _Progress(context, duration_ms_of(job.path))
        progress.tell()
        sound = progress.of(read_sound(job.path, chunk_s=WINDOW_S, track=track))
        spoken = pieces(sound, longest_s=config.piece_s, min_silence_ms=config.min_silence_ms)
        probability: float | None = None
        if language is None and (voters := list(islice(spoken, VOTERS))):
            # For the whole film, before any of it is heard: it does not change its language with every piece.
            language, probability = fitting.run(lambda whisper: language_of(whisper, voters))
            spoken = chain(voters, spoken)
        segments = words = earliest_ms = 0
        if language is not None:
            for segment in self._said(job, model, fitting, spoken, language, progress):
                segments, words = segments + 1, words + len(segment.payload.words)
                # Begins no earlier than the one before: artifacts come in order of start.
                earliest_ms = max(segment.start_ms, earliest_ms)
                yield Found(
                    TranscriptSegmentV1.NAME, earliest_ms, max(segment.end_ms, earliest_ms), segment.payload
                )
        progress.end()
        metrics = {
            "has_audio": 1.0,
            "track": float(track),
            "segments": float(segments),
            "words": float(words),
            "audio_seconds": round(progress.samples / RATE, 3),
            **fitting.metrics,
        }
        if probability is not None:
            metrics["language_probability"] = probability
        self._outcome = Outcome(metrics=metrics, language=language)

    def outcome(self) -> Outcome:
        """Words, segments, seconds of sound, the language and how sure the model is of it."""
        return self._outcome

    def _said(  # noqa: PLR0917 — the job, and what hears it
        self,
        job: Job,
        model: FoundModel,
        fitting: "Fitting[WhisperModel]",
        spoken: Iterator[Piece],
        language: str,
        progress: "_Progress",
    ) -> Iterator[Segment]:
        """All segments in order; other workers may hear some of the pieces."""
        config = _config(job)
        how = Hearing(language, config.beam_size, fitting.batch)
        terms = Terms(
            version=self.version,
            digest=model.digest,
            device=_kind_of(fitting.device),
            model=config.model,
            language=_language(job),
            how=how,
        )
        shared = Shared(
            job.run_id, spoken, Heard, terms=msgspec.msgpack.encode(terms), batch_size=how.batch_size
        )

        def hear(some: Sequence[Piece]) -> Iterator[Heard]:
            return iter(fitting.over(some, lambda whisper, part: listen(whisper, part, how, progress.tell)))

        with self.sharing(shared) if progress.total_ms >= SHARE_FROM_MS else nullcontext():
            for heard in shared.in_order(hear, done=progress.heard, alive=progress.tell):
                yield from heard.segments

    def fits(self, terms: bytes, models: ModelPlaces) -> bool:
        """Whether the very same model runs here on the same kind of device."""
        wanted = msgspec.msgpack.decode(terms, type=Terms)
        found = find_model("whisper", wanted.model, models, language=wanted.language, ask_hub=False)
        if isinstance(found, MissingModel) or (wanted.version, wanted.digest) != (self.version, found.digest):
            return False
        with self._lease(found, models) as lease:
            return _kind_of(lease.device) == wanted.device

    def aid(
        self, terms: bytes, pieces: Sequence[bytes], models: ModelPlaces, alive: Callable[[], None]
    ) -> Iterator[bytes]:
        """What is said in the pieces of another worker, which `fits`."""
        wanted = msgspec.msgpack.decode(terms, type=Terms)
        found = require_model("whisper", wanted.model, models, language=wanted.language)
        some = [msgspec.msgpack.decode(piece, type=Piece) for piece in pieces]
        with self._lease(found, models) as lease:
            fitting = _fitting(lease, wanted.how.batch_size)
            for heard in fitting.over(some, lambda whisper, part: listen(whisper, part, wanted.how, alive)):
                yield msgspec.msgpack.encode(heard)

    def _lease(self, found: FoundModel, models: ModelPlaces) -> "Lease[WhisperModel]":
        try:
            import faster_whisper  # noqa: F401 — its imports are not part of the model's size
        except ImportError as error:
            raise ModelUnavailable(
                f"faster-whisper is not installed ({error})", "pip install 'eioku[asr]'"
            ) from error
        device = self._device(models)
        loadable = Loadable(
            found.name,
            found.identity,
            (found.path,),
            lambda device: _load(found, device, models.threads),
            lambda model: model.model.unload_model(),
        )
        try:
            return LEASES.lease(loadable, device, models)
        except RuntimeError as error:
            if device == CPU or models.device != "auto":
                raise _broken(found, error, device) from error
            # A GPU or a cuBLAS that does not fit is no reason to do without a transcript.
            log.warning("transcription.gpu_unusable", error=str(error))
        try:
            lease = LEASES.lease(loadable, CPU, models)
        except RuntimeError as error:
            raise _broken(found, error, CPU) from error
        self._gpu_works = False  # it was not the model
        return lease

    def _device(self, models: ModelPlaces) -> str:
        """Where to run; raises ModelUnavailable."""
        import ctranslate2

        has_gpu = self._gpu_works and models.device != CPU and ctranslate2.get_cuda_device_count() > 0
        if has_gpu and (problem := cublas_problem()) is not None:
            if models.device != "auto":
                raise ModelUnavailable(
                    f"speech does not run on the GPU: {problem}", f"pip install {WHEEL}, or set EIOKU_DEVICE to auto"
                )
            log.warning("transcription.gpu_unusable", error=problem, remedy=f"pip install {WHEEL}")
            self._gpu_works = has_gpu = False
        return chosen_device(models, has_gpu=has_gpu, who="CTranslate2")


def _broken(found: FoundModel, error: Exception, device: str) -> ModelUnavailable:
    or_else = "" if device == CPU else ", or set EIOKU_DEVICE to auto"
    return ModelUnavailable(f"{found.path} does not load onto {device}: {error}", f"Fetch the model again{or_else}")


class _Progress:
    """How much of the media has been heard, by whomever."""

    def __init__(self, context: Context, total_ms: int) -> None:
        self._context, self.total_ms = context, total_ms
        self._done_ms = 0
        self.samples = 0
        """Sound that was read."""

    def of(self, sounds: Iterable[Sound]) -> Iterator[Sound]:
        """The sound as it comes: reading on through an hour of silence is progress too."""
        for sound in sounds:
            self.samples += len(sound.samples)
            self.tell()
            yield sound

    def heard(self, piece: Piece) -> None:
        self._done_ms += piece.covers_ms
        self.tell()

    def end(self) -> None:
        """Nothing is said in the rest."""
        self._done_ms = self.total_ms
        self.tell()

    def tell(self) -> None:
        """Raises JobCancelled."""
        self._context.progress(min(self._done_ms, self.total_ms), self.total_ms)


def _fitting(lease: "Lease[WhisperModel]", batch_size: int) -> "Fitting[WhisperModel]":
    """Unless told otherwise, several pieces at once on a GPU only, where they pay (ADR-0019)."""
    return Fitting(lease, most=lambda _: batch_size or (1 if lease.device == CPU else GPU_BATCH))


def _kind_of(device: str) -> str:
    """Without its number: cpu or cuda."""
    return device.partition(":")[0]


def _load(found: FoundModel, device: str, threads: int) -> "WhisperModel":
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(found.path),
        device="cpu" if device == CPU else "cuda",
        # float16 is what GPUs are fast at; int8 halves the time on CPUs.
        compute_type="int8" if device == CPU else "float16",
        cpu_threads=threads,
        num_workers=1,
        local_files_only=True,
    )
    if device != CPU:
        # A card that it cannot compute on shows at the first use: let that be now.
        model.encode(np.zeros((model.model.n_mels, model.feature_extractor.nb_max_frames), np.float32))
    return model


def _language(job: Job) -> str | None:
    language = job.message.language
    return language.lower().split("-")[0].split("_")[0] if language else None


def _config(job: Job) -> TranscriptionConfig:
    try:
        config = msgspec.convert(dict(job.config), TranscriptionConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    for name, value, least, most in (
        ("beam_size", config.beam_size, 1, 20),
        ("min_silence_ms", config.min_silence_ms, 100, 10_000),
        ("piece_s", config.piece_s, 5, 28),
        ("batch_size", config.batch_size, 0, 64),
    ):
        if not least <= value <= most:
            raise InvalidParameter(f"config.{name}", f"{value} is not between {least} and {most}")
    return config
