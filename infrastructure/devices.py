"""Which GPUs this machine has, and which of them a process may use."""

import os
from collections.abc import Mapping, Sequence

import msgspec
import pynvml

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One card, as its driver knows it."""

    uuid: str
    """ "GPU-…", the same whatever the order and whoever asks."""
    name: str
    total_bytes: int
    used_bytes: int
    """By all processes, when it was asked."""


class Visible(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU that a process may use."""

    token: str
    """What CUDA_VISIBLE_DEVICES calls it: hand it to a process that is to see this one alone."""
    gpu: Gpu | None
    """Which card that is; None where the driver's order and CUDA's may differ, or for a part of a card."""


def installed_gpus() -> tuple[Gpu, ...]:
    """All cards of this machine by their slots, whatever CUDA_VISIBLE_DEVICES says; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return tuple(_gpu(handle) for handle in handles)
    except pynvml.NVMLError:
        return ()  # a driver that answers half is as good as none
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: object) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        total_bytes=int(memory.total),
        used_bytes=int(memory.used),
    )


def visible_gpus(
    installed: Sequence[Gpu] | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Visible, ...]:
    """The GPUs that a process with this environment may use, `cuda:0` first.

    CUDA's own rules: unset means all, empty or -1 none; numbers and the beginnings of UUIDs; what is wrong hides
    everything behind it.
    """
    cards = installed_gpus() if installed is None else installed
    variables = os.environ if environment is None else environment
    given = variables.get(VISIBLE)
    if given is None:
        # By UUID: CUDA counts the fastest card first, the driver goes by slots.
        return tuple(Visible(token=card.uuid, gpu=card) for card in cards)
    is_one_order = variables.get(_ORDER) == "PCI_BUS_ID" or len({card.name for card in cards}) == 1
    found: list[Visible] = []
    for token in (part.strip() for part in given.split(",")):
        if token.isdecimal() and int(token) < len(cards):
            gpu = cards[int(token)] if is_one_order else None
        elif token.startswith("GPU-") and any(card.uuid.startswith(token) for card in cards):
            gpu = next(card for card in cards if card.uuid.startswith(token))
        elif token.startswith("MIG-") and cards:
            gpu = None
        else:
            break
        found.append(Visible(token=token, gpu=gpu))
    return tuple(found)


def gpu_of(device: str) -> Gpu | None:
    """The card that this process calls `device`, e.g. "cuda:0", as it is now; None where that is not known."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return None
    found = visible_gpus()
    index = int(number or 0)
    if index >= len(found) or (VISIBLE not in os.environ and len({one.gpu.name for one in found if one.gpu}) > 1):
        return None
    return found[index].gpu


def described(device: str) -> str:
    """The device with the card behind it where that is known: "cuda:0 (NVIDIA L4, GPU-5f…)"."""
    gpu = gpu_of(device)
    return device if gpu is None else f"{device} ({gpu.name}, {gpu.uuid})"
