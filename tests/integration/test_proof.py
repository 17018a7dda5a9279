"""The doctor's proof that producers load: real ones, and such as crash, hang, raise or miss something."""

import os
import signal
import time

import pytest

import workers
from domain.errors import ModelUnavailable
from domain.pipeline import BY_NAME
from domain.run import ModelIdentity
from eioku.doctor import finding_of
from workers.metadata import MetadataExtraction
from workers.producer import Description, Job, ModelPlaces, Producer
from workers.proof import prove
from workers.scene_detection import SceneDetection

ANY = {kind.task_type: kind for kind in workers.PRODUCERS}


class Fake(Producer):
    name, version = "fake", "1"

    def describe(self, job: Job) -> Description:
        """Do what is to be found out."""
        self.load()
        return Description(device="cpu", artifact_types=(), model=ModelIdentity(name="m", digest="d"))

    def load(self) -> None:
        """Nothing is wrong."""

    def produce(self, job: Job, context: object):
        return iter(())

    def outcome(self):
        raise AssertionError("nobody asks")


class Crashes(Fake):
    task_type = "scene_detection"

    def load(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Hangs(Fake):
    task_type = "face_detection"

    def load(self) -> None:
        time.sleep(600)


class Misses(Fake):
    task_type = "transcription"

    def load(self) -> None:
        raise ModelUnavailable("no weights", "put some there")


class HasNoLibrary(Fake):
    task_type = "place_detection"

    def load(self) -> None:
        import nothing_of_that_name  # noqa: F401 - that is the point


class Breaks(Fake):
    task_type = "embedding"

    def produce(self, job: Job, context: object):
        raise RuntimeError("primitive descriptor")
        yield


class Loads(Fake):
    task_type = "object_detection"


def test_each_producer_answers_for_itself_alone():
    kinds = (MetadataExtraction, Crashes, SceneDetection, Misses, HasNoLibrary, Breaks, Loads)
    proofs = {proof.task_type if proof.name == "fake" else proof.name: proof for proof in prove(kinds, ModelPlaces())}
    assert len(proofs) == len(kinds)
    real = proofs[MetadataExtraction.name], proofs[SceneDetection.name]
    assert [(proof.loads, proof.reason) for proof in real] == [(True, None)] * 2
    assert (proofs["object_detection"].loads, proofs["object_detection"].models[0].digest) == (True, "d")
    told = {name: finding_of(proof) for name, proof in proofs.items() if not proof.loads}
    assert {name: (finding.level, finding.text, finding.remedy is not None) for name, finding in told.items()} == {
        "scene_detection": ("problem", "its process ended by signal 11", True),
        "transcription": ("note", "no weights", True),
        "place_detection": ("note", "ModuleNotFoundError: No module named 'nothing_of_that_name'", True),
        "embedding": ("problem", "RuntimeError: primitive descriptor", True),
    }


def test_one_that_hangs_is_given_up():
    (proof,) = prove((Hangs,), ModelPlaces(), timeout_s=1)
    assert (proof.loads, proof.reason) == (False, "did not load within 1 s")


@pytest.mark.ml_asr
def test_a_real_producer_loads_its_model():
    (proof,) = prove((ANY["transcription"],), ModelPlaces(is_offline=True))
    assert (proof.loads, proof.reason) == (True, None)
    assert [len(model.digest or "") for model in proof.models] == [64]
    assert proof.family == BY_NAME["transcription"].family
