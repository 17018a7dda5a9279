"""Where the weights for faces are found: an explicit path, the models folder, an installed package."""

from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import msgspec

from domain.errors import ModelUnavailable
from domain.run import ModelIdentity
from workers.models import digest_of
from workers.producer import ModelPlaces

PACKAGE = "face_recognition_models"
LANDMARKS = "shape_predictor_5_face_landmarks.dat"
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
REMEDY = "pip install 'eioku[faces]'"


class FaceModels(msgspec.Struct, frozen=True, kw_only=True):
    """Weights that lie on this machine."""

    detector: Path | None
    """YuNet as ONNX; None = the HOG detector that is part of dlib."""
    landmarks: Path
    network: Path

    @property
    def identity(self) -> ModelIdentity:
        """As it goes into the run; the digest is over the digests of all files."""
        detector = f"dlib HOG {version('dlib-bin')}" if self.detector is None else self.detector.name
        parts = [detector if self.detector is None else digest_of(self.detector)]
        parts += [digest_of(self.landmarks), digest_of(self.network)]
        places = ", ".join(str(path) for path in (self.detector, self.landmarks, self.network) if path)
        return ModelIdentity(
            name=f"{detector} + {self.network.name}",
            digest=sha256("\n".join(parts).encode()).hexdigest(),
            source=places,
        )


def require_face_models(places: ModelPlaces) -> FaceModels:
    """The weights; raises ModelUnavailable with the remedy."""
    for library, package in (("cv2", "opencv-contrib-python"), ("dlib", "dlib-bin")):
        if find_spec(library) is None:
            raise ModelUnavailable(f"{package} is not installed", REMEDY)
    given = places.face_detector
    if given is not None and not given.is_file():
        raise ModelUnavailable(
            f"EIOKU_FACE_DETECTOR names {given}, which is not a file",
            "Point it at a YuNet model (face_detection_yunet_*.onnx of the OpenCV zoo), or unset it",
        )
    return FaceModels(
        detector=given or next(_detectors_in(places.models_dir), None),
        landmarks=_packaged(LANDMARKS, places.models_dir),
        network=_packaged(NETWORK, places.models_dir),
    )


def _detectors_in(folder: Path | None) -> Iterator[Path]:
    if folder is not None and folder.is_dir():
        # Their names end in year and month: the newest first.
        yield from sorted(folder.glob("face_detection_yunet*.onnx"), reverse=True)


def _packaged(name: str, folder: Path | None) -> Path:
    """A file of dlib's, from the models folder or the package, which is only located: importing it fails."""
    spec = find_spec(PACKAGE)
    package = Path(spec.origin).parent / "models" if spec and spec.origin else None
    for place in (folder, package):
        if place is not None and (place / name).is_file():
            return place / name
    raise ModelUnavailable(f"no {name}", f"{REMEDY}, or put the file into EIOKU_MODELS_DIR")
