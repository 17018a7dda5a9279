"""Text on the screen, by PaddleOCR: read every few seconds and after each change, joined over time."""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from domain.artifacts.ocr_text import OcrTextV1
from domain.errors import InvalidParameter, ModelUnavailable
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.frames import Decoding, Frame, Image
from workers.fitting import Fitting
from workers.leases import LEASES, Lease, Loadable, chosen_device
from workers.memory import CPU
from workers.models import MissingModel
from workers.ocr_models import TextModel, TextModels, find_text_models, folder_for_paddle, require_text_models
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome, Producer
from workers.screen_text import COLUMNS, ROWS, Line, Screen, Shown, Watch

LARGEST_SIDE = 1920
"""Frames are decoded no larger; letters that need more are rare, and memory is not."""
LOOK_MS = 200
"""Between two looks at whether the picture changed; also how exact starts and ends are."""
CPU_LINES, GPU_LINES = 1, 6
"""Lines read at once. On a CPU six take 0.3 GB more and no less time; a GPU wants Paddle's own six."""
LARGEST_LINE = (48, 3200, 3)
"""Rows, columns and colours: PaddleX scales lines to this height, and makes them no wider."""
_UNNEEDED = ("scikit-learn", "matplotlib")
"""PaddleX imports what is installed, for tasks that are not ours: 0.13 GB."""
UNCLIP = 2.0
"""How far boxes are widened around their letters; with Paddle's own 1.5 the first and last letter are cut off."""


class OcrConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the task."""

    model: str = "PP-OCRv5_mobile"
    """Generation and size wished for; what is at hand on this machine goes before a download."""
    languages: tuple[str, ...] = ()
    """BCP 47. One model must read all of them; none: the task's language, else Chinese and English."""
    every_ms: int = 2000
    """A moving picture is read so often; one that stands still is read once."""
    side: int = 960
    """Longer side of the picture in which lines are looked for, pixels."""
    confidence: float = 0.6
    """Lines below are left out."""


USUAL = OcrConfig()
"""What a job gets that asks for nothing; models are made ready for its pictures."""


class Ocr(Producer):
    """Finds and reads lines of text. A title that stands for four seconds is one artifact of four seconds."""

    task_type = "ocr"
    name = "paddleocr"
    version = "2"
    shares_frames = True

    def __init__(self) -> None:
        self._outcome = Outcome(metrics={})

    def warm(self, models: ModelPlaces) -> None:
        """Load the models that the default profile would get here, without asking the hub."""
        found = find_text_models(USUAL.model, (), models, ask_hub=False)
        if not isinstance(found, MissingModel) and find_spec("paddleocr") is not None:
            with _lease(found, models, USUAL):
                pass

    def describe(self, job: Job) -> Description:
        """Finds and loads the models."""
        config, languages = _config(job), _languages(job)
        found = _found(config, languages, job.models)
        with _lease(found, job.models, config) as lease:
            return Description(
                device=lease.device_name,
                artifact_types=(OcrTextV1.NAME,),
                model=found.identity,
                language=_only(languages),
            )

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        """One `ocr.text` for each line of text, with the time it is on the screen; none for a file without pictures."""
        config = _config(job)
        with _lease(_found(config, _languages(job), job.models), job.models, config) as lease:
            yield from self._find(job, context, Fitting(lease))

    def _find(self, job: Job, context: Context, fitting: Fitting[Any]) -> Iterator[Found]:
        config, languages = _config(job), _languages(job)
        track = job.picture_track()
        if track is None:
            self._outcome = Outcome(
                metrics={"has_video": 0.0, "frames": 0.0, "frames_read": 0.0, "lines": 0.0}
            )
            return
        total_ms = duration_ms_of(job.path)
        decoding, watch, screen = Decoding(), Watch(), Screen()
        looked = read = lines = read_ms = 0
        language = _only(languages)
        for frame in job.frames(
            every_ms=LOOK_MS, max_side=LARGEST_SIDE, layout="bgr24", is_lazy=True, decoding=decoding
        ):
            at_ms = frame.time_ms
            context.progress(min(at_ms, total_ms), total_ms)
            looked += 1
            change = watch.look(frame.brightness(COLUMNS, ROWS))
            if change.is_edge:
                screen.edge(at_ms)
            since_ms = at_ms - read_ms
            is_worth_it = change.is_still or change.is_cut or since_ms >= config.every_ms
            if not change.is_new:
                screen.unchanged(at_ms)
            elif not read or (is_worth_it and since_ms >= config.every_ms // 4):
                screen.read(at_ms, fitting.run(partial(_lines, frame=frame, config=config)))
                watch.mark_read()
                read, read_ms = read + 1, at_ms
            for shown in screen.ended():
                lines += 1
                yield _found_text(shown, language)
        screen.finish(round(decoding.end * 1000) or total_ms)
        for shown in screen.ended():
            lines += 1
            yield _found_text(shown, language)
        self._outcome = Outcome(
            metrics={
                "has_video": 1.0,
                "track": float(track),
                "frames": float(looked),
                "frames_read": float(read),
                "lines": float(lines),
                "damaged_packets": float(decoding.damaged),
                **fitting.metrics,
            },
            language=language,
        )

    def outcome(self) -> Outcome:
        """Frames looked at, frames read and lines found."""
        return self._outcome


def _found(config: OcrConfig, languages: tuple[str, ...], models: ModelPlaces) -> TextModels:
    for package in ("paddleocr", "paddle"):
        if find_spec(package) is None:
            raise ModelUnavailable(f"{package} is not installed", "pip install 'eioku[ocr]'")
    return require_text_models(config.model, languages, models)


def _lease(found: TextModels, models: ModelPlaces, config: OcrConfig) -> Lease[Any]:
    """Of a `paddleocr.PaddleOCR`."""
    _prepare_paddle(models.models_dir)
    import paddle

    with _hidden(_UNNEEDED):
        import paddleocr  # noqa: F401 — its imports are not part of the model's size

    has_gpu = (
        models.device != CPU and paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    )
    device = chosen_device(
        models, has_gpu=has_gpu, who="PaddlePaddle", or_else="Install paddlepaddle-gpu for your CUDA. "
    )
    # The older executor knows the older format only.
    is_program = found.detection.is_program and found.recognition.is_program
    is_older = device == CPU and is_program and config.side <= USUAL.side
    identity = found.identity
    loadable = Loadable[Any](
        identity.name,
        (identity, is_older),
        (found.detection.path, found.recognition.path),
        lambda device: _load(found, device, models.threads, is_older=is_older),
        is_alone=True,
    )
    return LEASES.lease(loadable, device, models)


def _load(found: TextModels, device: str, threads: int, *, is_older: bool) -> Any:
    """`is_older`: on the older executor, for pictures no larger than usual."""
    from paddleocr import PaddleOCR

    both = (found.detection, found.recognition)
    with TemporaryDirectory(prefix="eioku-ocr-") as scratch:
        folders = [str(folder_for_paddle(model, Path(scratch))) for model in both]
        try:
            with _on_older_executor() if is_older else nullcontext():
                loaded = PaddleOCR(
                    text_detection_model_name=found.detection.name,
                    text_detection_model_dir=folders[0],
                    text_recognition_model_name=found.recognition.name,
                    text_recognition_model_dir=folders[1],
                    use_doc_orientation_classify=False,
                    use_doc_unwarping=False,
                    use_textline_orientation=False,
                    text_recognition_batch_size=CPU_LINES if device == CPU else GPU_LINES,
                    device="cpu" if device == CPU else "gpu:0",
                    engine="paddle_static",
                    engine_config=_engine(both, threads, has_gpu=device != CPU),
                )
            if is_older:
                # The older executor keeps what its input took, and takes more anew when one is larger: the largest first.
                _read(loaded, np.zeros((USUAL.side, USUAL.side, 3), np.uint8), USUAL)
                list(loaded.paddlex_pipeline.text_rec_model(np.zeros(LARGEST_LINE, np.uint8)))
        except Exception as error:  # the library raises whatever its many loaders raise
            raise ModelUnavailable(
                f"{found.detection.path} and {found.recognition.path} do not load: {error}",
                "Fetch the models again",
            ) from error
    return loaded


def _engine(both: tuple[TextModel, TextModel], threads: int, *, has_gpu: bool) -> dict[str, Any]:
    if has_gpu:
        return {"run_mode": "paddle"}
    if all(model.is_program for model in both):
        # With Paddle's new representation oneDNN crashes; without oneDNN it takes many times as long.
        # It keeps what it made ready for the last shapes of input; lines differ in length, so more are of no use.
        return {
            "run_mode": "mkldnn",
            "enable_new_ir": False,
            "cpu_threads": threads,
            "mkldnn_cache_capacity": 1,
        }
    return {
        "run_mode": "paddle",
        "cpu_threads": threads,
    }  # the newer format knows the new representation only


def _prepare_paddle(folder: Path | None) -> None:
    """Set what Paddle reads when it is imported: it asks no hub, and leaves torch alone."""
    os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"
    if folder is not None:
        os.environ.setdefault("PADDLE_PDX_CACHE_HOME", str(folder / ".paddlex"))
    # PaddleX imports modelscope for downloads, and that imports torch: one GB, and OCR takes twice as long.
    sys.modules.setdefault("modelscope", ModuleType("modelscope"))


@contextmanager
def _on_older_executor() -> Iterator[None]:
    """Within, Paddle loads models with the executor that keeps the memory of its tensors for the next run.

    The newer one, which PaddleX asks for, has a thread free it, which spins, and was 0.3 s and 350 MB late when the cores
    were busy.
    """
    from paddle import inference

    config: Any = inference.Config
    real, config.enable_new_executor = config.enable_new_executor, lambda _: None
    try:
        yield
    finally:
        config.enable_new_executor = real


@contextmanager
def _hidden(distributions: Collection[str]) -> Iterator[None]:
    """Within, these look as if they were not installed to who asks for their version."""

    def version(distribution_name: str) -> str:
        if distribution_name in distributions:
            raise metadata.PackageNotFoundError(distribution_name)
        return real(distribution_name)

    real, metadata.version = metadata.version, version
    try:
        yield
    finally:
        metadata.version = real


def _read(ocr: Any, image: Image, config: OcrConfig) -> Any:
    # The limits on every call: the pipeline's own read a 4K picture in full size and enlarge a small one.
    return ocr.predict(
        image,
        text_det_limit_side_len=config.side,
        text_det_limit_type="max",
        text_det_unclip_ratio=UNCLIP,
        text_rec_score_thresh=config.confidence,
    )[0]


def _lines(ocr: Any, frame: Frame, config: OcrConfig) -> list[Line]:
    """Lines of the frame, from top to bottom."""
    result = _read(ocr, frame.image, config)
    height, width = frame.image.shape[:2]
    lines = []
    for text, score, corners in zip(
        result["rec_texts"], result["rec_scores"], result["rec_polys"], strict=True
    ):
        said = str(text).replace("\0", "").strip()
        if any(map(str.isalnum, said)):
            polygon = tuple((_unit(x / width), _unit(y / height)) for x, y in corners)
            lines.append(Line(said, round(min(1.0, float(score)), 4), polygon, frame.index))
    return lines


def _unit(value: float) -> float:
    return round(min(max(float(value), 0.0), 1.0), 5)


def _found_text(shown: Shown, language: str | None) -> Found:
    line = shown.line
    payload = OcrTextV1(
        text=line.text,
        confidence=line.confidence,
        polygon=line.polygon,
        language=language,
        frame_index=line.frame_index,
    )
    return Found(OcrTextV1.NAME, shown.start_ms, shown.end_ms, payload)


def _languages(job: Job) -> tuple[str, ...]:
    """What the text may be in: the config's, else the task's."""
    return _config(job).languages or ((job.message.language,) if job.message.language else ())


def _only(languages: tuple[str, ...]) -> str | None:
    return languages[0] if len(languages) == 1 else None


def _config(job: Job) -> OcrConfig:
    try:
        config = msgspec.convert(dict(job.config), OcrConfig)
    except msgspec.ValidationError as error:
        raise InvalidParameter("config", str(error)) from error
    if config.every_ms < LOOK_MS or not 0 <= config.confidence <= 1:
        raise InvalidParameter(
            "config", f"every_ms must be at least {LOOK_MS} and confidence between 0 and 1"
        )
    if not 32 <= config.side <= 4096:  # noqa: PLR2004
        raise InvalidParameter("config.side", f"{config.side} is not between 32 and 4096")
    return config
