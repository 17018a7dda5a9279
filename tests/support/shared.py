"""Several readers over one pass."""

import threading
from collections.abc import Callable
from typing import Any

from infrastructure.media.frames import SampleFrames
from infrastructure.media.shared_frames import SharedFrames


def together(*works: Callable[[SampleFrames], Any], wait: Callable[[], None] = lambda: None) -> list[Any]:
    """What each of `works` returns or raises, all in threads over one pass."""
    shared, results = SharedFrames(len(works)), [None] * len(works)

    def work(number: int) -> None:
        with shared.reader(wait) as sample:
            try:
                results[number] = works[number](sample)
            except Exception as error:  # noqa: BLE001 - looked at by the test
                results[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return results
