"""A producer whose work can be shared, and that needs no model."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec

from domain.artifacts.transcript_segment import TranscriptSegmentV1
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome
from workers.sharing import Shareable, Shared


class Numbered(msgspec.Struct, frozen=True):
    """A piece of work that takes `pace_s`."""

    index: int
    pace_s: float


class ByWhom(msgspec.Struct, frozen=True):
    """Its result: the process that did it."""

    index: int
    pid: int


class Divisible(Shareable):
    """Finds `count` segments, a piece of work each, that say who did them; a helper must agree to `terms`."""

    task_type = "transcription"
    name = "divisible"
    version = "1"

    def describe(self, job: Job) -> Description:
        return Description(device="cpu", artifact_types=("transcript.segment",))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        count, pace_s = int(job.config["count"]), float(job.config["pace_s"])
        terms = str(job.config.get("terms", "agreed")).encode()
        pieces = (Numbered(n, pace_s) for n in range(count))
        shared = Shared(job.run_id, pieces, ByWhom, terms=terms, batch_size=2)
        done: list[Numbered] = []

        def alive() -> None:
            context.progress(len(done), count)

        with self.sharing(shared):
            for each in shared.in_order(functools.partial(self._do, alive=alive), done=done.append, alive=alive):
                yield Found("transcript.segment", each.index, each.index, TranscriptSegmentV1(text=str(each.pid)))

    def outcome(self) -> Outcome:
        return Outcome(metrics={})

    def fits(self, terms: bytes, models: ModelPlaces) -> bool:
        return terms == b"agreed"

    def aid(
        self, terms: bytes, pieces: Sequence[bytes], models: ModelPlaces, alive: Callable[[], None]
    ) -> Iterator[bytes]:
        decoded = [msgspec.msgpack.decode(piece, type=Numbered) for piece in pieces]
        return map(msgspec.msgpack.encode, self._do(decoded, alive))

    @staticmethod
    def _do(pieces: Sequence[Numbered], alive: Callable[[], None]) -> Iterator[ByWhom]:
        for piece in pieces:
            time.sleep(piece.pace_s)
            alive()
            yield ByWhom(piece.index, os.getpid())
