"""Models in memory: loaded when a job needs one, kept for the next, evicted when another needs the room (ADR-0018)."""

import fcntl
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import structlog

from domain.errors import ModelUnavailable, OutOfMemory
from infrastructure.devices import described
from workers import memory
from workers.calls import Calls
from workers.memory import CPU, give_back, is_out_of_memory
from workers.producer import ModelPlaces

log = structlog.get_logger(__name__)

M = TypeVar("M")
VRAM_SHARE, RAM_SHARE = 0.9, 0.25
"""Of a card, and of the machine for each worker, where the settings say nothing: there are four families."""
LOCK = ".loading.lock"


class Loadable(NamedTuple, Generic[M]):
    """A model, and how it is loaded."""

    name: str
    """For people."""
    key: Hashable
    """Names the weights and everything else that makes it another model in memory."""
    weights: tuple[Path, ...]
    """Files or folders; their size is what it takes at least."""
    load: Callable[[str], M]
    """Onto a device, "cpu" or "cuda:0". The libraries are imported before: they are not part of its size."""
    unload: Callable[[M], None] = lambda _: None
    """For libraries that hold memory beyond the object's life."""
    is_alone: bool = False
    """Its library keeps what it had of a GPU in a pool of its own: others leave before it comes."""


class _Held:
    """A model in memory."""

    def __init__(self, loadable: Loadable[Any], device: str, model: Any, size_bytes: int) -> None:
        self.loadable, self.device, self.model, self.size_bytes = loadable, device, model, size_bytes
        self.leases = 1
        self.calls = Calls()


class Leases:
    """The models of this process. Thread-safe: a query is answered while a job runs."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[Hashable, str], _Held] = OrderedDict()
        """The one used longest ago first."""
        self._books = threading.Lock()
        self._loading = threading.Lock()

    def lease(self, loadable: Loadable[M], device: str, places: ModelPlaces) -> "Lease[M]":
        """The model, in memory until the lease is closed; use it in a `with`. Loaded unless it is there.

        Models that nobody leases make room, the one used longest ago first. What does not fit onto a GPU is loaded
        for the CPU where EIOKU_DEVICE is auto.

        Raises:
            OutOfMemory: there is no room beside what is leased.
            ModelUnavailable: as `loadable.load` raises it.
        """
        return Lease(self, loadable, device, places)

    def keys(self, device: str = CPU) -> list[Hashable]:
        """What is in memory there, the one used longest ago first."""
        with self._books:
            return [held.loadable.key for held in self._held.values() if held.device == device]

    def take(self, loadable: Loadable[Any], device: str, places: ModelPlaces) -> _Held:
        """Count one more lease, of a model that is there now; raises as `lease`."""
        name = (loadable.key, device)
        if (held := self._there(name)) is not None:
            return held
        with self._loading:
            if (held := self._there(name)) is not None:
                return held  # somebody loaded it while we waited
            with _alone_on_this_machine(places.models_dir):
                return self._load(loadable, device, places)

    def release(self, held: _Held) -> None:
        """Count one lease less; the model stays until its room is needed."""
        with self._books:
            held.leases -= 1

    def evict_idle(self, device: str, *, most: int | None = None) -> bool:
        """Remove models that nobody leases (at most `most`), the one used longest ago first; whether there were any."""
        with self._books:
            idle = [held for held in self._held.values() if not held.leases and held.device == device][:most]
            for held in idle:
                del self._held[held.loadable.key, device]
        for held in idle:
            log.info("model.evicted", model=held.loadable.name, device=device, bytes=held.size_bytes)
            held.loadable.unload(held.model)
            held.model = None
        if idle:
            give_back()
        return bool(idle)

    def _there(self, name: tuple[Hashable, str]) -> _Held | None:
        with self._books:
            held = self._held.get(name)
            if held is not None:
                self._held.move_to_end(name)
                held.leases += 1
            return held

    def _load(self, loadable: Loadable[Any], device: str, places: ModelPlaces) -> _Held:
        on_disk = sum(_size_of(path) for path in loadable.weights)
        if device != CPU:
            give_back()  # what torch keeps for later looks used to everybody else
        if loadable.is_alone:
            self.evict_idle(device)
        self._make_room(device, on_disk, places)
        before = memory.memory_of(device)
        model = self._loaded(loadable, device)
        after = memory.memory_of(device)
        grown = after.used - before.used if before and after else 0
        # Some libraries load at first use: then the files are the better measure.
        held = _Held(loadable, device, model, max(grown, on_disk))
        with self._books:
            self._held[loadable.key, device] = held
        log.info("model.loaded", model=loadable.name, device=device, bytes=held.size_bytes)
        while self._over(device, 0, places) > 0 and self.evict_idle(device, most=1):
            pass
        return held

    def _loaded(self, loadable: Loadable[M], device: str) -> M:
        while True:
            try:
                return loadable.load(device)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                problem = str(error)
            # Outside of the handler: the traceback holds what was loaded so far.
            give_back()
            if not self.evict_idle(device):
                raise OutOfMemory(f"the model does not fit onto {device}: {problem}"[:500])

    def _make_room(self, device: str, wanted_bytes: int, places: ModelPlaces) -> None:
        while (over := self._over(device, wanted_bytes, places)) > 0:
            if self.evict_idle(device, most=1):
                continue
            if device == CPU and not self.keys(CPU):
                log.warning("model.over_budget", device=device, over_bytes=over)
                return  # better than never
            raise OutOfMemory(
                f"{wanted_bytes >> 20} MB of weights do not fit onto {device} now: {over >> 20} MB too much"
            )

    def _over(self, device: str, wanted_bytes: int, places: ModelPlaces) -> int:
        """Bytes above the budget with so many more; at most 0 when they fit."""
        now = memory.memory_of(device)
        if now is None:
            return 0  # nobody knows: the library will say
        if device != CPU:  # other processes have models there, too
            budget = places.vram_bytes or round(now.total * VRAM_SHARE)
            return now.used + wanted_bytes - budget
        budget = places.ram_bytes or round(now.total * RAM_SHARE)
        with self._books:
            return sum(held.size_bytes for held in self._held.values() if held.device == CPU) + wanted_bytes - budget


class Lease(Generic[M]):
    """A model that stays in memory. What runs out of memory inside the `with` leaves it as OutOfMemory."""

    def __init__(self, leases: Leases, loadable: Loadable[M], device: str, places: ModelPlaces) -> None:
        self._leases, self.loadable, self._places = leases, loadable, places
        try:
            self._held = leases.take(loadable, device, places)
        except OutOfMemory as error:
            if not self._may_move(device):
                raise
            log.warning("model.on_cpu", model=loadable.name, error=str(error))
            self._held = leases.take(loadable, CPU, places)

    def __enter__(self) -> Self:
        """The lease itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the model back."""
        self._leases.release(self._held)
        if error is not None and not isinstance(error, OutOfMemory) and is_out_of_memory(error):
            raise OutOfMemory(f"on {self.device}: {error}"[:500]) from error

    @property
    def model(self) -> M:
        """What `load` gave; another one after `move_to_cpu`."""
        model: M = self._held.model
        return model

    @property
    def device(self) -> str:
        """Where it is: "cpu" or "cuda:0"."""
        return self._held.device

    @property
    def calls(self) -> Calls:
        """Whoever calls the model takes its turn there."""
        return self._held.calls

    @property
    def device_name(self) -> str:
        """The device with the card behind it, for the run."""
        return described(self.device)

    def make_room(self) -> bool:
        """Evict what nobody leases on the same device; whether there was anything."""
        return self._leases.evict_idle(self.device)

    def move_to_cpu(self) -> bool:
        """Go on with the model on the CPU; False if it is there already or EIOKU_DEVICE wants the GPU."""
        if not self._may_move(self.device):
            return False
        before = self._held
        self._held = self._leases.take(self.loadable, CPU, self._places)
        self._leases.release(before)
        self._leases.evict_idle(before.device)
        return True

    def _may_move(self, device: str) -> bool:
        return device != CPU and self._places.device == "auto"


LEASES = Leases()
"""Of this process."""


def chosen_device(places: ModelPlaces, *, has_gpu: bool, who: str, or_else: str = "") -> str:
    """Where to run, "cuda:0" or "cpu", as EIOKU_DEVICE and the machine have it.

    `who` looked for the GPU; `or_else` is what may be done so that it finds one.

    Raises:
        ModelUnavailable: it must be a GPU, and there is none.
    """
    if places.device == "cuda" and not has_gpu:
        raise ModelUnavailable(
            f"EIOKU_DEVICE is cuda, and {who} sees no CUDA GPU", f"{or_else}Set EIOKU_DEVICE to auto or cpu"
        )
    return "cuda:0" if has_gpu and places.device != CPU else CPU


def torch_device(places: ModelPlaces) -> str:
    """The same for what runs on torch, which is imported and told its threads."""
    import torch

    torch.set_num_threads(places.threads)
    return chosen_device(places, has_gpu=places.device != CPU and torch.cuda.is_available(), who="torch")


def _size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


@contextmanager
def _alone_on_this_machine(folder: Path | None) -> Iterator[None]:
    """Nobody else loads a model meanwhile: two at a time would each take the room that the other has seen."""
    try:
        if folder is None:
            raise FileNotFoundError
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError:
        yield  # a folder of weights that cannot be written to: done without
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
