"""Texts as vectors of their meaning, by sentence-transformers."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from application.messages import TextVector
from domain.artifacts.embedding import EXCERPT_CHARS, EmbeddingV1, packed
from domain.errors import InvalidParameter, ModelUnavailable
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, torch_device
from workers.models import FoundModel, MissingModel, find_model, require_model
from workers.producer import Context, Description, Found, Job, Knowing, ModelPlaces, Outcome

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 16
"""Texts at once: about 0.2 s on one core, so that a cancelled job stops and a query gets its turn in between."""
SOURCES = ("transcript.segment", "ocr.text")


class EmbeddingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "all-MiniLM-L6-v2"
    """Name of a sentence-transformers model."""


class Embedding(Knowing):
    """One vector for each transcript segment and line of on-screen text that counts in the video now."""

    task_type = "embedding"
    name = "sentence-transformers"
    version = "1"
    needs = SOURCES
    shares_batches = True
    space = "text"

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the model of the default profile without asking the hub, and use it once: nobody's query waits for it."""
        found = find_model("embedder", EmbeddingConfig().model, models, ask_hub=False)
        if not isinstance(found, MissingModel) and find_spec("sentence_transformers") is not None:
            with _lease(found, models) as lease:
                Fitting(lease, most=lambda _: BATCH).over(["warm"], _vectors)

    def describe(self, job: Job) -> Description:
        """Finds and loads the model."""
        found = require_model("embedder", _config(job.config).model, job.models)
        with _lease(found, job.models) as lease:
            return Description(
                device=lease.device_name, artifact_types=(EmbeddingV1.NAME,), model=found.identity
            )

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `embedding` for each text that has words; equal texts are computed once."""
        found = require_model("embedder", _config(job.config).model, job.models)
        with _lease(found, job.models) as lease:
            yield from self._find(job, context, found, lease)

    def _find(
        self, job: Job, context: Context, found: FoundModel, lease: "Lease[SentenceTransformer]"
    ) -> Iterator[Found]:
        digest, fitting = found.digest, Fitting(lease, most=lambda _: BATCH, wait=context.wait)
        texts = [text for text in job.texts if text.text.strip()]
        total_ms = max((text.end_ms for text in job.texts), default=0)
        context.progress(0, total_ms)
        known: dict[str, tuple[float, ...]] = {}
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            new = list(dict.fromkeys(text.text for text in batch if text.text not in known))
            known |= zip(new, fitting.over(new, _vectors), strict=True)
            for text in batch:
                vector = known[text.text]
                payload = EmbeddingV1(
                    model=found.name,
                    model_digest=digest,
                    dim=len(vector),
                    source_id=text.artifact_id,
                    source_type=cast("Literal['transcript.segment', 'ocr.text']", text.artifact_type),
                    excerpt=text.text.strip()[:EXCERPT_CHARS],
                    vector=packed(vector),
                )
                yield Found(EmbeddingV1.NAME, text.start_ms, text.end_ms, payload)
            context.progress(max(text.end_ms for text in batch), total_ms)
        counts = {"texts": float(len(texts)), "distinct_texts": float(len(known))}
        self._outcome = Outcome(metrics=counts | fitting.metrics)

    def outcome(self) -> Outcome:
        """How many texts there were."""
        return self._outcome

    def meaning_of(self, text: str, models: ModelPlaces) -> TextVector:
        """The vector of a query."""
        found = require_model("embedder", EmbeddingConfig().model, models)
        with _lease(found, models) as lease:
            (vector,) = Fitting(lease, most=lambda _: BATCH).over([text], _vectors)
        return TextVector(model=found.name, model_digest=found.digest, vector=packed(vector))


def _vectors(model: "SentenceTransformer", texts: Sequence[str]) -> list[tuple[float, ...]]:
    found = model.encode(list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    return [tuple(map(float, vector)) for vector in found]


def _lease(found: FoundModel, models: ModelPlaces) -> "Lease[SentenceTransformer]":
    try:
        import sentence_transformers  # noqa: F401 — its imports are not part of the model's size
    except ImportError as error:
        raise ModelUnavailable(
            f"the library sentence-transformers cannot be loaded: {error}", "install eioku[embed]"
        ) from error
    loadable = Loadable(found.name, found.identity, (found.path,), lambda device: _load(found, device))
    return LEASES.lease(loadable, torch_device(models), models)


def _load(found: FoundModel, device: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(found.path), device=device, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelUnavailable(
            f"the text embedding model in {found.path} cannot be loaded: {error}", "put a whole model there"
        ) from error
    return model.eval()


def _config(config: Any) -> EmbeddingConfig:
    try:
        return msgspec.convert(dict(config), EmbeddingConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
