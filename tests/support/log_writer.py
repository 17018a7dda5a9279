"""A process that writes to the log: `python -m tests.support.log_writer URL SEED EVENTS`.

Prints each position as it is acknowledged.
"""

import random
import sys
from collections.abc import Iterator
from uuid import UUID

from application.ports import LogItem
from domain.run import artifacts_stream_of
from infrastructure.event_store.log import PostgresEventLog
from tests.support.log_items import a_batch, events


def appends(seed: int, total: int) -> Iterator[list[LogItem]]:
    """Appends of all kinds: a few events, 2,000 events, a batch, and both together. One stream and one run a writer."""
    choose = random.Random(seed)
    stream, run = UUID(int=choose.getrandbits(128)), UUID(int=choose.getrandbits(128))
    version, place = 1, 1
    while total > 0:
        items: list[LogItem] = []
        kind = choose.choices(["few", "many", "batch", "both"], [80, 1, 15, 4])[0]
        if kind != "batch":
            count = 2_000 if kind == "many" else choose.choice((1, 1, 1, 2, 5, 20))
            items += events(stream, version, min(count, total))
            version += len(items)
            total -= len(items)
        if kind in ("batch", "both") and total > 0:
            count = min(choose.choice((1, 10, 100, 500)), total)
            items.insert(choose.randrange(len(items) + 1), a_batch(run, place, count))
            place += count
            total -= count
        yield items


def streams_of(seed: int) -> tuple[UUID, UUID]:
    """The stream of events and the stream of artifacts that the writer with this seed fills."""
    choose = random.Random(seed)
    stream, run = UUID(int=choose.getrandbits(128)), UUID(int=choose.getrandbits(128))
    return stream, artifacts_stream_of(run)


def main() -> None:
    url, seed, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with PostgresEventLog(url, pool_size=1) as log:
        for items in appends(seed, total):
            print(log.append(items), flush=True)


if __name__ == "__main__":
    main()
