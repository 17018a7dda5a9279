"""What a read model does not know yet is looked for in the log, from the position that it has reached on."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

from application.ports import EventLog, Recorded, TaskIndex
from domain import task, video


def since(log: EventLog, position: int, topics: Sequence[str]) -> Iterator[Recorded]:
    """Events of some topics after a position that a read model has reached: few, unless it lags."""
    while records := log.read(position, kinds=topics):
        yield from records
        position = records[-1].position


def tasks_of(log: EventLog, tasks: TaskIndex, video_id: UUID) -> Iterable[UUID]:
    """The tasks of a video; of a deleted one at least those that are open."""
    position, known = tasks.of_video(video_id)
    asked = {
        record.item.originator_id: None
        for record in since(log, position, [task.TaskRequested.TOPIC])
        if isinstance(record.item, task.TaskRequested) and record.item.video_id == video_id
    }
    return dict.fromkeys(known) | asked


def news_at(log: EventLog, position: int, sources: Collection[str]) -> Iterator[tuple[str, UUID]]:
    """(source, id) of the videos that came to one of these places."""
    for record in since(log, position, [video.VideoRegistered.TOPIC, video.VideoRelocated.TOPIC]):
        event = record.item
        if isinstance(event, video.VideoRegistered | video.VideoRelocated) and event.source in sources:
            yield event.source, event.originator_id
