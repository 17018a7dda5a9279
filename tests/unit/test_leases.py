"""Models in memory: who is kept, who makes room, and what happens when there is none."""

import threading
import time
from pathlib import Path

import pytest

from domain.errors import MediaUnreadable, ModelUnavailable, OutOfMemory
from workers import leases as leases_module
from workers import memory
from workers.fitting import Fitting
from workers.leases import Leases, Loadable, chosen_device
from workers.memory import CPU, Memory, is_out_of_memory
from workers.producer import ModelPlaces

MB = 1 << 20
GPU = "cuda:0"


class Card:
    """A GPU of 1000 MB that counts what lies on it, and the machine's RAM likewise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = {GPU: 0, CPU: 0}
        self.evicted: list[str] = []
        self.loads: list[tuple[str, str]] = []
        monkeypatch.setattr(memory, "memory_of", lambda device: Memory(self.used[device] * MB, 1000 * MB))

    def model(self, name: str, mb: int) -> Loadable[str]:
        def load(device: str) -> str:
            if self.used[device] + mb > 1000:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            self.used[device] += mb
            self.loads.append((name, device))
            return f"{name}@{device}"

        def unload(model: str) -> None:
            self.used[model.split("@")[1]] -= mb
            self.evicted.append(name)

        return Loadable(name, name, (), load, unload)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


PLACES = ModelPlaces(ram_bytes=300 * MB, vram_bytes=500 * MB)


def use(leases: Leases, loadable: Loadable[str], device: str = GPU, places: ModelPlaces = PLACES) -> str:
    with leases.lease(loadable, device, places) as lease:
        return lease.model


def test_a_model_is_loaded_once_and_kept(card: Card) -> None:
    leases = Leases()
    assert [use(leases, card.model("a", 100)) for _ in range(3)] == ["a@cuda:0"] * 3
    assert card.loads == [("a", GPU)]


@pytest.mark.parametrize("device", [GPU, CPU])
def test_the_one_used_longest_ago_makes_room(card: Card, device: str) -> None:
    leases = Leases()
    for name in ("a", "b", "a", "c"):
        use(leases, card.model(name, 120 if device == CPU else 200), device)
    assert card.evicted == ["b"]
    assert leases.keys(device) == ["a", "c"]


def test_a_leased_model_is_never_evicted(card: Card) -> None:
    leases = Leases()
    places = ModelPlaces(vram_bytes=250 * MB, device="cuda")
    with leases.lease(card.model("a", 300), GPU, places) as first:
        with pytest.raises(OutOfMemory, match="do not fit"):
            use(leases, card.model("b", 100), GPU, places)
        assert first.model == "a@cuda:0"
    assert card.evicted == []
    assert use(leases, card.model("b", 100), GPU, places) == "b@cuda:0"
    assert card.evicted == ["a"]


def test_two_models_are_held_at_once_only_while_both_fit(card: Card) -> None:
    leases = Leases()
    use(leases, card.model("balanced", 200))
    use(leases, card.model("high_quality", 250))
    assert leases.keys(GPU) == ["balanced", "high_quality"]
    use(leases, card.model("other", 400))
    assert leases.keys(GPU) == ["other"]


def test_what_others_hold_on_the_card_counts(card: Card) -> None:
    leases = Leases()
    use(leases, card.model("a", 200))
    card.used[GPU] += 250  # of another process
    use(leases, card.model("b", 100))
    assert card.evicted == ["a"]


def test_a_card_full_of_other_processes_leaves_the_cpu_if_that_is_allowed(card: Card) -> None:
    card.used[GPU] = 600
    assert use(Leases(), card.model("a", 100)) == "a@cpu"
    with pytest.raises(OutOfMemory) as told:
        use(Leases(), card.model("a", 100), places=ModelPlaces(vram_bytes=500 * MB, device="cuda"))
    assert told.value.retryable


def test_a_model_larger_than_the_budget_runs_alone_on_the_cpu(card: Card) -> None:
    leases = Leases()
    use(leases, card.model("small", 100), CPU)
    assert use(leases, card.model("large", 400), CPU) == "large@cpu"
    assert (leases.keys(), card.evicted) == (["large"], ["small"])


def test_weights_on_disk_say_beforehand_what_is_needed(card: Card, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with (tmp_path / "deep" / "weights").open("wb") as file:
        file.truncate(250 * MB)
    leases = Leases()
    use(leases, card.model("a", 100), CPU)
    order = list[str]()
    large = card.model("large", 200)._replace(weights=(tmp_path,))
    loading = large._replace(load=lambda device: order.extend(card.evicted) or large.load(device))
    use(leases, loading, CPU)
    assert order == ["a"]  # before it was loaded, not after


def test_a_library_with_a_pool_of_its_own_gets_the_process_for_itself(card: Card) -> None:
    leases = Leases()
    use(leases, card.model("a", 10), CPU)
    use(leases, card.model("paddle", 10)._replace(is_alone=True), CPU)
    assert card.evicted == ["a"]


def test_out_of_memory_while_loading_evicts_and_tries_again(card: Card) -> None:
    leases = Leases()
    places = ModelPlaces(vram_bytes=2000 * MB)  # more than there is: the library finds out
    use(leases, card.model("a", 600), places=places)
    assert use(leases, card.model("b", 700), places=places) == "b@cuda:0"
    assert card.evicted == ["a"]
    with pytest.raises(OutOfMemory, match="Tried to allocate"):
        use(leases, card.model("c", 1100), places=ModelPlaces(vram_bytes=2000 * MB, device="cuda"))


def test_what_does_not_load_for_another_reason_is_told_as_it_is(card: Card) -> None:
    def load(device: str) -> str:
        raise ModelUnavailable("/models/a.pt does not load", "Fetch the weights again")

    with pytest.raises(ModelUnavailable):
        use(Leases(), Loadable("a", "a", (), load))


def test_out_of_memory_hidden_in_another_error_is_found() -> None:
    error = ModelUnavailable("a.pt does not load", "Fetch it again")
    error.__cause__ = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("CUDA failed with error out of memory"), True),  # CTranslate2
        (MemoryError("ResourceExhaustedError: Out of memory error on GPU 0"), True),  # Paddle
        (OSError("(External) CUDA error(2), out of memory."), True),  # Paddle
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (MediaUnreadable("/films/Out of Memory (2014).mp4 is no media file"), False),
        (FileNotFoundError(2, "No such file", "/films/out of memory.mp4"), False),
    ],
)
def test_running_out_of_memory_is_told_apart(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_what_runs_out_of_memory_under_a_lease_is_a_clear_error_and_the_lease_ends(card: Card) -> None:
    leases = Leases()
    with pytest.raises(OutOfMemory, match="cuda:0"), leases.lease(card.model("a", 400), GPU, PLACES):
        raise RuntimeError("CUDA out of memory")
    use(leases, card.model("b", 400))
    assert card.evicted == ["a"]


# ---- batches -----------------------------------------------------------------------------------------------------


class Hungry:
    """Takes `most` items at once; raises what the library raises when it gets more."""

    def __init__(self, most: int, error: Exception | None = None) -> None:
        self.most, self.sizes = most, list[int]()
        self.error = error or RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    def __call__(self, items) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > self.most:
            raise self.error
        return [item * 10 for item in items]


def hungry(key: str, gpu: int, cpu: int = 99) -> tuple[Loadable[Hungry], dict[str, Hungry]]:
    there = {GPU: Hungry(gpu), CPU: Hungry(cpu)}
    return Loadable(key, key, (), there.__getitem__), there


def run(model: Hungry, items) -> list[int]:
    return model(items)


def test_the_batch_is_halved_until_it_fits_and_the_fit_is_remembered(card: Card) -> None:
    leases, (loadable, there) = Leases(), hungry("halved", 3)
    with leases.lease(loadable, GPU, PLACES) as lease:
        fitting = Fitting(lease, most=lambda _: 16, size=640)
        assert fitting.over(range(20), run) == [n * 10 for n in range(20)]
        assert there[GPU].sizes == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
        assert fitting.metrics == {"batch": 2.0, "out_of_memory": 3.0, "moved_to_cpu": 0.0, "merged": 0.0}
    with leases.lease(loadable, GPU, PLACES) as lease:
        again = Fitting(lease, most=lambda _: 16, size=640)
        assert again.batch == 2
        assert Fitting(lease, most=lambda _: 16, size=320).batch == 16
        assert again.metrics["out_of_memory"] == 0


def test_idle_models_make_room_before_the_batch_is_halved(card: Card) -> None:
    leases, (loadable, there) = Leases(), hungry("room", 3)
    use(leases, card.model("idle", 100))

    def work(model: Hungry, items) -> list[int]:
        model.most = 16 if card.evicted else 3
        return model(items)

    with leases.lease(loadable, GPU, PLACES) as lease:
        fitting = Fitting(lease, most=lambda _: 16)
        assert len(fitting.over(range(16), work)) == 16
        assert there[GPU].sizes == [16, 16]
        assert fitting.metrics == {"batch": 16.0, "out_of_memory": 1.0, "moved_to_cpu": 0.0, "merged": 0.0}


def test_when_not_one_fits_the_cpu_goes_on_where_the_gpu_stopped(card: Card) -> None:
    leases, (loadable, there) = Leases(), hungry("moved", 0)
    with leases.lease(loadable, GPU, PLACES) as lease:
        fitting = Fitting(lease, most=lambda model: 4 if model is there[GPU] else 8)
        assert fitting.over(range(20), run) == [n * 10 for n in range(20)]
        assert (there[GPU].sizes, there[CPU].sizes) == ([4, 2, 1], [8, 8, 4])
        assert lease.device == CPU
        assert fitting.metrics == {"batch": 8.0, "out_of_memory": 3.0, "moved_to_cpu": 1.0, "merged": 0.0}
    assert (leases.keys(GPU), leases.keys(CPU)) == ([], ["moved"])


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_when_nothing_is_left_to_try_the_job_fails_clearly_and_may_be_tried_again(card: Card, device) -> None:
    loadable, _ = hungry("hopeless" + device, 0, 0)
    places = ModelPlaces(device=device)
    with (
        pytest.raises(OutOfMemory, match="not even one at a time") as told,
        Leases().lease(loadable, chosen_device(places, has_gpu=True, who="torch"), places) as lease,
    ):
        Fitting(lease, most=lambda _: 4).over([1, 2, 3], run)
    assert (told.value.code, told.value.retryable) == ("OUT_OF_MEMORY", True)


def test_other_errors_pass_through_at_once(card: Card) -> None:
    loadable, there = hungry("broken", 0)
    there[GPU].error = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="assert"), Leases().lease(loadable, GPU, PLACES) as lease:
        Fitting(lease, most=lambda _: 4).over([1, 2, 3], run)
    assert there[GPU].sizes == [3]


def test_what_has_no_batch_moves_to_the_cpu_as_a_whole(card: Card) -> None:
    loadable, _ = hungry("whole", 0)
    with Leases().lease(loadable, GPU, PLACES) as lease:
        assert Fitting(lease).run(lambda model: model([7])) == [70]


# ---- several at once ---------------------------------------------------------------------------------------------


def test_a_model_that_is_there_is_had_while_another_one_is_loading(card: Card) -> None:
    leases, may_go, has_begun = Leases(), threading.Event(), threading.Event()
    use(leases, card.model("there", 10))

    def slow(device: str) -> str:
        has_begun.set()
        assert may_go.wait(10)
        return "slow"

    loading = threading.Thread(target=use, args=(leases, Loadable("slow", "slow", (), slow)))
    loading.start()
    assert has_begun.wait(10)
    assert use(leases, card.model("there", 10)) == "there@cuda:0"
    may_go.set()
    loading.join(10)
    assert leases.keys(GPU) == ["there", "slow"]


def test_two_who_want_the_same_load_it_once(card: Card) -> None:
    leases, loads = Leases(), list[str]()

    def slow(device: str) -> str:
        loads.append(device)
        time.sleep(0.05)
        return "slow"

    both = [threading.Thread(target=use, args=(leases, Loadable("slow", "slow", (), slow))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(10)
    assert loads == [GPU]


def test_one_model_loads_at_a_time_on_a_machine(tmp_path: Path) -> None:
    spans = list[tuple[float, float]]()

    def load(_device: str) -> str:
        begun = time.monotonic()
        time.sleep(0.2)
        spans.append((begun, time.monotonic()))
        return "model"

    # The lock goes with the open file, so that two that know nothing of each other stand for two processes.
    places = ModelPlaces(models_dir=tmp_path)
    loadable = Loadable("a", "a", (), load)
    both = [threading.Thread(target=use, args=(Leases(), loadable, CPU, places)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert len(spans) == 2
    assert spans[0][1] <= spans[1][0]
    assert (tmp_path / leases_module.LOCK).exists()


def test_a_folder_of_weights_that_cannot_be_written_to_is_no_hindrance(tmp_path: Path, card: Card) -> None:
    (tmp_path / "file").touch()
    assert use(Leases(), card.model("a", 1), CPU, ModelPlaces(models_dir=tmp_path / "file" / "models")) == "a@cpu"


def test_without_settings_budgets_are_shares_of_what_there_is(card: Card) -> None:
    leases = Leases()
    for name in ("a", "b"):
        use(leases, card.model(name, 480), GPU, ModelPlaces())
        use(leases, card.model(name, 140), CPU, ModelPlaces())
    assert (leases.keys(GPU), leases.keys(CPU)) == (["b"], ["b"])


def test_a_gpu_that_must_be_and_is_not_there_is_told_with_a_remedy() -> None:
    assert chosen_device(ModelPlaces(), has_gpu=False, who="torch") == CPU
    assert chosen_device(ModelPlaces(device="cpu"), has_gpu=True, who="torch") == CPU
    with pytest.raises(ModelUnavailable, match="EIOKU_DEVICE is cuda, and torch sees no CUDA GPU"):
        chosen_device(ModelPlaces(device="cuda"), has_gpu=False, who="torch")


def test_the_memory_of_this_process_is_measured() -> None:
    now = memory.memory_of(CPU)
    assert now is not None
    assert 10 * MB < now.used < now.total
