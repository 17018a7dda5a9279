"""Where the Places365 checkpoint is found: an explicit path, the models folder, its authors' server."""

import time
import urllib.request
from pathlib import Path

from workers.models import FoundModel, MissingModel, hub_problem
from workers.producer import ModelPlaces

PLACES_HUB = "http://places2.csail.mit.edu/models_places365"
"""As its authors publish it, without TLS: what comes is only ever read as numbers (`weights_only`)."""
LABELS_HUB = "https://raw.githubusercontent.com/csailvision/places365/master"
LABELS, ENVIRONMENTS = "categories_places365.txt", "IO_places365.txt"
"""Beside the checkpoint: the 365 labels (needed), and which of them are indoors (1) or outdoors (2) (optional)."""
SUFFIXES = (".pth.tar", ".pth", ".pt")
LARGEST_BYTES = 512 << 20
DOWNLOAD_S = 600.0
"""A download that takes longer is given up."""
_CHUNK = 1 << 20


def find_places(wanted: str, places: ModelPlaces, *, ask_hub: bool = True) -> FoundModel | MissingModel:
    """The checkpoint for a profile's wish, "resnet18" or "resnet50"; another one in the models folder will do too."""
    if (given := places.places_model) is not None:
        if not given.is_file():
            return MissingModel(
                missing=f"EIOKU_PLACES_MODEL names {given}, which is not a file",
                remedy=f"Point it at a Places365 checkpoint such as {wanted}_places365.pth.tar, or unset it",
            )
        return _with_labels(given, FoundModel(kind="places", name=_bare(given), path=given, source="path"))
    folder, name = places.models_dir, f"{wanted}_places365.pth.tar"
    files = sorted(folder.glob("*places365*")) if folder is not None and folder.is_dir() else []
    files = [f for f in files if f.name.endswith(SUFFIXES) and f.is_file()]
    files.sort(key=lambda f: not f.name.startswith(wanted))
    if files:
        found = FoundModel(kind="places", name=_bare(files[0]), path=files[0], source="folder")
        return _with_labels(files[0], found)
    where = folder or "a folder and set EIOKU_MODELS_DIR to it"
    remedy = (
        f"Put {name} of {PLACES_HUB} with {LABELS} and {ENVIRONMENTS} of {LABELS_HUB} into {where}, or set "
        "EIOKU_PLACES_MODEL to that checkpoint. A machine that reaches those addresses downloads them by itself"
    )
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        if folder is None:
            why = "EIOKU_MODELS_DIR is not set, so there is nowhere to download to"
        else:
            why = hub_problem(f"{PLACES_HUB}/{name}", places.hub_timeout_s) or _fetch(folder, name, places)
            if not why:
                return FoundModel(kind="places", name=_bare(Path(name)), path=folder / name, source="hub")
    return MissingModel(missing=f"no Places365 checkpoint{f' ({why})' if why else ''}", remedy=remedy)


def _bare(path: Path) -> str:
    return next((path.name.removesuffix(end) for end in SUFFIXES if path.name.endswith(end)), path.name)


def _with_labels(checkpoint: Path, found: FoundModel) -> FoundModel | MissingModel:
    if (checkpoint.parent / LABELS).is_file():
        return found
    return MissingModel(
        missing=f"{checkpoint} has no {LABELS} beside it",
        remedy=f"Put {LABELS} (and {ENVIRONMENTS}) of {LABELS_HUB} into {checkpoint.parent}",
    )


def _fetch(folder: Path, name: str, places: ModelPlaces) -> str:
    """Download the labels, then the checkpoint, so that it never lies there without them; why that failed, or ""."""
    ends = time.monotonic() + DOWNLOAD_S
    for url in (f"{LABELS_HUB}/{LABELS}", f"{LABELS_HUB}/{ENVIRONMENTS}", f"{PLACES_HUB}/{name}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _download(url, folder / url.rsplit("/", 1)[1], places.hub_timeout_s, ends)
        except (OSError, ValueError) as error:
            return f"{url} was not delivered: {error}"
    return ""


def _download(url: str, target: Path, timeout_s: float, ends: float) -> None:
    part = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer, part.open("wb") as out:  # noqa: S310
            while chunk := answer.read(_CHUNK):
                if out.tell() + len(chunk) > LARGEST_BYTES or time.monotonic() > ends:
                    raise ValueError(f"larger than {LARGEST_BYTES} bytes or slower than {DOWNLOAD_S:g} s")
                out.write(chunk)
            if (said := answer.headers.get("Content-Length")) and int(said) != out.tell():
                raise ValueError(f"{out.tell()} of {said} bytes came")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
