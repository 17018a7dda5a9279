"""A job in pieces, some of which others do."""

from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

import msgspec
import pytest

from domain.errors import MediaUnreadable
from workers import sharing
from workers.sharing import Shared


class Piece(msgspec.Struct, frozen=True):
    index: int


class Found(msgspec.Struct, frozen=True):
    index: int
    by: str = "us"


def shared(pieces: Iterator[Piece], batch_size: int = 1) -> Shared[Piece, Found]:
    return Shared(UUID(int=1), pieces, Found, terms=b"terms", batch_size=batch_size)


def numbered(count: int) -> Iterator[Piece]:
    return (Piece(n) for n in range(count))


def ours(pieces: Sequence[Piece]) -> Iterator[Found]:
    return (Found(piece.index) for piece in pieces)


def found(work: Shared[Piece, Found], **more) -> Iterator[Found]:
    return work.in_order(ours, **({"done": lambda piece: None, "alive": lambda: None} | more))


def theirs(piece: bytes, by: str = "them") -> bytes:
    return msgspec.msgpack.encode(Found(msgspec.msgpack.decode(piece, type=Piece).index, by))


def test_alone_all_is_done_in_order_and_in_batches() -> None:
    sizes = []

    def do(pieces: Sequence[Piece]) -> Iterator[Found]:
        sizes.append(len(pieces))
        return ours(pieces)

    done: list[Piece] = []
    work = shared(numbered(7), batch_size=3)
    results = list(work.in_order(do, done=done.append, alive=lambda: None))
    assert [each.index for each in results] == list(range(7))
    assert done == list(numbered(7))
    assert sizes == [3, 3, 1]


def test_what_helpers_find_comes_at_its_place_and_is_counted_once() -> None:
    done: list[Piece] = []
    work = shared(numbered(5))
    first, second = work.give(), work.give()
    work.take_back(theirs(second))
    going = found(work, done=done.append, alive=lambda: work.take_back(theirs(first)))
    results = list(going)
    assert [(each.index, each.by) for each in results] == [(0, "them"), (1, "them"), (2, "us"), (3, "us"), (4, "us")]
    assert sorted(piece.index for piece in done) == list(range(5))
    work.take_back(theirs(first, "again"))
    assert list(found(work)) == []


def test_a_piece_whose_helper_is_gone_is_done_here_and_its_late_result_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "PATIENCE_S", 0.0)
    work = shared(numbered(3))
    lost = work.give()
    going = found(work)
    results = list(islice(going, 1))
    work.take_back(theirs(lost))
    results += going
    assert results == [Found(0), Found(1), Found(2)]


def test_there_is_an_end_to_what_is_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_AWAY", 2)
    work = shared(numbered(9))
    assert work.give()
    assert work.give()
    assert work.give() is None


def test_a_broken_file_ends_the_job_whoever_came_upon_it() -> None:
    def pieces() -> Iterator[Piece]:
        yield Piece(0)
        raise MediaUnreadable("broken")

    work = shared(pieces())
    given = work.give()
    assert work.give() is None
    work.take_back(theirs(given))
    with pytest.raises(MediaUnreadable):
        list(found(work))


def test_what_alive_raises_ends_the_waiting() -> None:
    work = shared(numbered(1))
    work.give()

    def cancelled() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(found(work, alive=cancelled))
