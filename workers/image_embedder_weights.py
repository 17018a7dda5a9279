"""Where the model that embeds pictures and words is found: an explicit path, the models folder, the hub."""

from pathlib import Path

from workers.embedder_weights import WEIGHTS, weights_in
from workers.models import FoundModel, MissingModel, hub_problem
from workers.producer import ModelPlaces

PICTURES = ("preprocessor_config.json", "processor_config.json")
"""How pictures are prepared; what a model of texts alone does not have."""
FILES = ["*.json", "*.txt", "*.model"]


def find_image_embedder(wanted: str, places: ModelPlaces, *, ask_hub: bool) -> FoundModel | MissingModel:
    """The folder of an image-text model, e.g. "openai/clip-vit-base-patch32". Only the very model counts: vectors of
    different models cannot be compared.
    """
    if (given := places.image_embedder) is not None:
        if is_image_embedder(given):
            return FoundModel(kind="image_embedder", name=given.name, path=given, source="path")
        return MissingModel(
            missing=f"EIOKU_IMAGE_EMBEDDER names {given}, which is no folder with an image-text model",
            remedy=f"Point it at a folder with config.json, {PICTURES[0]} and {WEIGHTS[0]} (CLIP or SigLIP), or unset it",
        )
    folder = places.models_dir
    inside = None if folder is None else folder / wanted.rsplit("/", 1)[-1]
    if inside is not None and is_image_embedder(inside):
        return FoundModel(kind="image_embedder", name=wanted, path=inside, source="folder")
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        found = _download(wanted, inside, places.hub_timeout_s)
        if isinstance(found, FoundModel):
            return found
        why = found
    return MissingModel(
        missing=f"no image-text model{f' ({why})' if why else ''}",
        remedy=(
            f"Put {wanted} of huggingface.co as a folder {wanted.rsplit('/', 1)[-1]} into"
            f" {folder or 'a folder and set EIOKU_MODELS_DIR to it'}, or set EIOKU_IMAGE_EMBEDDER to a folder with a"
            " CLIP or SigLIP model. A machine that reaches huggingface.co downloads it by itself"
        ),
    )


def is_image_embedder(folder: Path) -> bool:
    """Whether it looks like one; what it really is shows when it is loaded."""
    has_pictures = any((folder / name).is_file() for name in PICTURES)
    return has_pictures and (folder / "config.json").is_file() and weights_in(folder) is not None


def _download(wanted: str, target: Path | None, timeout_s: float) -> FoundModel | str:
    """Fetch the model by name; or why that failed."""
    if target is None:
        return "EIOKU_MODELS_DIR is not set, so there is nowhere to download to"
    from huggingface_hub import constants, snapshot_download

    if why := hub_problem(constants.ENDPOINT, timeout_s):
        return why
    try:
        # One format is enough, and older models have only the second.
        for weights in WEIGHTS:
            snapshot_download(wanted, local_dir=target, allow_patterns=[*FILES, weights])
            if weights_in(target) is not None:
                break
    except Exception as error:  # noqa: BLE001 — whatever the library raises, the answer is: not there
        return f"the hub did not deliver {wanted}: {error}"
    if not is_image_embedder(target):
        return f"{wanted} is no image-text model"
    return FoundModel(kind="image_embedder", name=wanted, path=target, source="hub")
