"""Which GPUs a process may use, by CUDA's rules, and the worker that each one gets."""

import pytest

from domain.pipeline import FAMILIES
from eioku import bootstrap, supervisor
from eioku.doctor import _gpu
from eioku.settings import Settings
from infrastructure import devices
from infrastructure.devices import VISIBLE, Gpu, described, installed_gpus, visible_gpus


def card(number: int, name: str = "NVIDIA L4") -> Gpu:
    return Gpu(uuid=f"GPU-{number}{number}aa-bb", name=name, total_bytes=24 << 30, used_bytes=1 << 30)


THREE = tuple(card(number) for number in range(3))
MIXED = (card(0, "NVIDIA T4"), card(1, "NVIDIA H100"))


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with three cards, none of them hidden."""
    monkeypatch.setattr(devices, "installed_gpus", lambda: THREE)
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (None, [gpu.uuid for gpu in THREE]),
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("2, 0", ["2", "0"]),
        ("1,-1,0", ["1"]),
        ("1,7,0", ["1"]),
        ("NoDevFiles", []),
        ("GPU-22aa", ["GPU-22aa"]),
        ("GPU-99,0", []),
        ("MIG-4f-1", ["MIG-4f-1"]),
    ],
)
def test_what_is_visible_is_what_cuda_makes_of_the_variable(given: str | None, tokens: list[str]) -> None:
    environment = {} if given is None else {VISIBLE: given}
    assert [one.token for one in visible_gpus(THREE, environment)] == tokens
    assert visible_gpus((), environment) == ()


def test_a_number_names_a_card_only_where_cuda_counts_as_the_driver_does() -> None:
    def cards(cards: tuple[Gpu, ...], **variables: str) -> list[Gpu | None]:
        return [one.gpu for one in visible_gpus(cards, variables)]

    assert cards(THREE, CUDA_VISIBLE_DEVICES="1") == [THREE[1]]
    assert cards(MIXED, CUDA_VISIBLE_DEVICES="1") == [None]
    assert cards(MIXED, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [MIXED[1]]
    assert cards(MIXED, CUDA_VISIBLE_DEVICES="GPU-11") == [MIXED[1]]
    assert cards(THREE, CUDA_VISIBLE_DEVICES="MIG-4f-1") == [None]


def test_a_run_tells_the_card_behind_the_name(monkeypatch: pytest.MonkeyPatch, three) -> None:
    assert described("cpu") == "cpu"
    assert described("cuda:1") == "cuda:1 (NVIDIA L4, GPU-11aa-bb)"
    assert described("cuda:7") == "cuda:7"
    monkeypatch.setenv(VISIBLE, "GPU-22aa-bb")
    assert described("cuda:0") == "cuda:0 (NVIDIA L4, GPU-22aa-bb)"
    assert described("cuda") == "cuda (NVIDIA L4, GPU-22aa-bb)"
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr(devices, "installed_gpus", lambda: MIXED)
    assert described("cuda:0") == "cuda:0"  # which of them CUDA counts first is not known


def test_a_machine_without_a_driver_has_none() -> None:
    assert isinstance(installed_gpus(), tuple)


def test_each_gpu_gets_a_torch_and_an_asr_worker_that_sees_it_alone(three) -> None:
    started = {family: supervisor.slots(family, "auto") for family in FAMILIES}
    each = [(f"-gpu{n}", {VISIBLE: gpu.uuid}) for n, gpu in enumerate(THREE)]
    assert started == {"light": [("", {})], "ocr": [("", {})], "asr": each, "torch": each}


@pytest.mark.parametrize(
    ("given", "device", "workers"),
    [
        ("0,2", "auto", [("-gpu0", {VISIBLE: "0"}), ("-gpu1", {VISIBLE: "2"})]),
        ("2", "auto", [("", {})]),
        ("", "auto", [("", {})]),
        ("-1", "cuda", [("", {})]),
        ("0,1", "cpu", [("", {})]),
    ],
)
def test_a_given_choice_of_gpus_is_kept(
    monkeypatch: pytest.MonkeyPatch, three, given: str, device: str, workers: list
) -> None:
    monkeypatch.setenv(VISIBLE, given)
    assert supervisor.slots("torch", device) == workers


@pytest.mark.parametrize(
    ("settings", "cores", "videos"),
    [
        (Settings(), 16, 4),
        (Settings(), 4, 2),
        (Settings(), 1, 1),
        (Settings(device="cpu"), 16, 1),
        (Settings(videos_together=3), 1, 3),
        (Settings(videos_together=2, device="cpu"), 16, 2),
    ],
)
def test_with_a_gpu_several_videos_are_done_at_once_as_far_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, three, settings: Settings, cores: int, videos: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert bootstrap.videos_together(settings) == videos
    monkeypatch.setenv(VISIBLE, "")
    assert bootstrap.videos_together(settings) == (1 if settings.videos_together == "auto" else videos)


def test_the_doctor_tells_the_cards_and_which_are_left(monkeypatch: pytest.MonkeyPatch, three) -> None:
    def told() -> list[str]:
        return [finding.text for finding in _gpu(Settings())]

    monkeypatch.setattr("eioku.doctor.installed_gpus", lambda: THREE)
    monkeypatch.setattr("eioku.doctor.cublas_problem", lambda: "libcublas.so.12: no such file")
    assert told()[-1] == "speech does not run on the GPU: libcublas.so.12: no such file"
    monkeypatch.setattr("eioku.doctor.cublas_problem", lambda: None)
    assert [text.split(",")[0] for text in told()] == ["NVIDIA L4"] * 3
    monkeypatch.setenv(VISIBLE, "1")
    assert told()[-1] == "CUDA_VISIBLE_DEVICES leaves of them: 1"
    monkeypatch.setenv(VISIBLE, "")
    assert told()[-1].endswith("none")
