"""Artifacts that another tool made become an ordinary completed run, all or nothing."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import groupby
from typing import Annotated, Any
from uuid import UUID, uuid5

import msgspec

from application.handle import store
from application.ports import EventLog, LogItem
from application.request_task import video_of
from domain import run, task
from domain.artifacts import LATEST, payload_type
from domain.artifacts.envelope import BatchHead, Item, Payload, artifact_id_of, pack
from domain.artifacts.fields import Language
from domain.errors import IdTaken, InvalidArtifact, InvalidParameter
from domain.event import Meta
from domain.ids import chosen
from domain.pipeline import DEFAULT_PROFILE, config_hash
from domain.run import artifacts_stream_of

BATCH = 1_000
MOST_MS = 2**31 - 1
"""The longest media the read models can hold: 24 days."""
MOST_CONFIG_BYTES = 16 * 1024
"""Of JSON; lists of tasks and runs show it."""
MOST_PAYLOAD_BYTES = 64 * 1024
"""Of JSON: half an hour of speech has as much, with all its words. Lists show payloads whole."""
WORKER = "import"


TypeName = Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(LATEST)})]


class ImportedArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One artifact as a client sends it."""

    artifact_type: TypeName
    span_start_ms: int
    span_end_ms: int
    payload: msgspec.Raw
    """JSON; checked against the schema of its type."""
    schema_version: int = 1
    artifact_id: UUID | None = None


ShortText = Annotated[str, msgspec.Meta(max_length=200, pattern=r"\S")]


class Import(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tool found in a video."""

    producer: ShortText
    producer_version: ShortText
    artifacts: list[ImportedArtifact]
    model_profile: ShortText = DEFAULT_PROFILE
    language: Language | None = None
    config: dict[str, Any] = {}
    created_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    """When the tool did its work; None = now."""
    artifact_types: tuple[TypeName, ...] = ()
    """What was looked for, beyond what was found."""
    run_id: UUID | None = None


class Imported(msgspec.Struct, frozen=True):
    """The run that an import became."""

    run_id: UUID
    task_id: UUID
    count: int
    position: int


class _Found(msgspec.Struct, frozen=True):
    """Checked artifacts of one type and version, in the order of the request."""

    artifact_type: str
    schema_version: int
    items: list[Item]


def import_artifacts(log: EventLog, meta: Meta, video_id: UUID, wish: Import, *, run_id: UUID) -> Imported:
    """Store `wish` as a completed run of an import task; the same `run_id` with the same content changes nothing.

    Everything is checked before anything is stored. `run_id` is used unless the wish names its own.

    Raises:
        VideoNotFound: not there, deleted, or another tenant's.
        SchemaNotFound, InvalidArtifact, InvalidParameter: the first thing that is wrong.
        IdTaken: the run's id belongs to something else.
    """
    run_id = run_id if wish.run_id is None else chosen("run_id", wish.run_id)
    if len(msgspec.json.encode(wish.config)) > MOST_CONFIG_BYTES:
        raise InvalidParameter("config", f"has more than {MOST_CONFIG_BYTES} bytes as JSON")
    found = _checked(wish, run_id)
    types = tuple(dict.fromkeys([*wish.artifact_types, *(f.artifact_type for f in found)]))
    for name in wish.artifact_types:
        payload_type(name)
    if not types:
        raise InvalidParameter("artifacts", "is empty and artifact_types does not say what was looked for")
    content = _digest(video_id, wish, found, types)
    task_id = uuid5(run_id, "import")
    count = sum(len(f.items) for f in found)

    def items() -> Sequence[LogItem]:
        video_of(log, meta, video_id)
        started = next(iter(log.load(run_id)), None)
        if isinstance(started, run.RunStarted) and (started.tenant_id, started.input_hash) == (
            meta.tenant_id,
            content,
        ):
            return []
        if any(log.version(stream) for stream in (run_id, task_id, artifacts_stream_of(run_id))):
            raise IdTaken(run_id)
        return list(
            _journal(meta, video_id, wish, found, types, run_id=run_id, task_id=task_id, content=content)
        )

    return Imported(run_id=run_id, task_id=task_id, count=count, position=store(log, items))


# ---- checking ----------------------------------------------------------------------------------------------------


@cache
def _decoder(struct: type[Payload]) -> msgspec.json.Decoder[Payload]:
    return msgspec.json.Decoder(struct)


def _checked(wish: Import, run_id: UUID) -> list[_Found]:
    groups: dict[tuple[str, int], _Found] = {}
    ids: set[UUID] = set()
    for index, artifact in enumerate(wish.artifacts):
        kind = (artifact.artifact_type, artifact.schema_version)
        if kind not in groups:
            groups[kind] = _Found(*kind, items=[])
        decoder = _decoder(payload_type(*kind))
        if not 0 <= artifact.span_start_ms <= artifact.span_end_ms <= MOST_MS:
            span = f"span {artifact.span_start_ms}..{artifact.span_end_ms}"
            raise InvalidArtifact(f"{span} must be 0 ≤ start ≤ end ≤ {MOST_MS}", index=index)
        if len(bytes(artifact.payload)) > MOST_PAYLOAD_BYTES:
            reason = f"{artifact.artifact_type} payload: has more than {MOST_PAYLOAD_BYTES} bytes as JSON"
            raise InvalidArtifact(reason, index=index)
        try:
            payload = decoder.decode(artifact.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidArtifact(f"{artifact.artifact_type} payload: {error}", index=index) from error
        if flaw := payload.flaw():
            raise InvalidArtifact(f"{artifact.artifact_type} payload: {flaw}", index=index)
        if artifact.artifact_id is None:
            artifact_id = artifact_id_of(run_id, index + 1)
        else:
            artifact_id = chosen(f"artifacts[{index}].artifact_id", artifact.artifact_id)
        if artifact_id in ids:
            raise InvalidArtifact(f"artifact_id {artifact_id} comes twice", index=index)
        ids.add(artifact_id)
        groups[kind].items.append(
            Item(
                artifact_id=artifact_id,
                start_ms=artifact.span_start_ms,
                end_ms=artifact.span_end_ms,
                payload=payload,
            )
        )
    return list(groups.values())


def _digest(video_id: UUID, wish: Import, found: list[_Found], types: tuple[str, ...]) -> str:
    """SHA-256, hex, of all that makes two imports the same."""
    about = (
        video_id,
        wish.producer,
        wish.producer_version,
        wish.model_profile,
        wish.language,
        wish.config,
        wish.created_at,
        sorted(types),
    )
    digest = sha256(msgspec.json.encode(about, order="deterministic"))
    encoder = msgspec.json.Encoder()
    for group in sorted(found, key=lambda f: (f.artifact_type, f.schema_version)):
        digest.update(encoder.encode((group.artifact_type, group.schema_version, group.items)))
    return digest.hexdigest()


def _language(wish: Import, found: list[_Found]) -> str | None:
    """The run's language: as told, or as all payloads agree."""
    if wish.language is not None:
        return wish.language
    said = {getattr(item.payload, "language", None) for group in found for item in group.items}
    return said.pop() if len(said) == 1 else None


# ---- writing -----------------------------------------------------------------------------------------------------


def _journal(
    meta: Meta,
    video_id: UUID,
    wish: Import,
    found: list[_Found],
    types: tuple[str, ...],
    *,
    run_id: UUID,
    task_id: UUID,
    content: str,
) -> Iterator[LogItem]:
    """Every event of the import, in order."""
    language = _language(wish, found)
    config = dict(wish.config)
    hashed = config_hash(task.IMPORT, {"producer": wish.producer, **config}, language)
    created_at = wish.created_at or meta.at
    asked = task.RequestTask(
        stream_id=task_id,
        meta=meta,
        video_id=video_id,
        task_type=task.IMPORT,
        profile=wish.model_profile,
        config=config,
        config_hash=hashed,
        language=language,
    )
    state = None
    for command in (
        asked,
        task.StartTask(
            stream_id=task_id, meta=meta, run_id=run_id, request_version=1, delivery=1, worker=WORKER
        ),
    ):
        for event in task.decide(state, command):
            state = task.evolve(state, event)
            yield event
    begun = run.decide(
        None,
        run.StartRun(
            stream_id=run_id,
            meta=meta,
            video_id=video_id,
            task_id=task_id,
            task_type=task.IMPORT,
            producer=wish.producer,
            producer_version=wish.producer_version,
            profile=wish.model_profile,
            config=config,
            config_hash=hashed,
            input_hash=content,
            attempt=1,
            worker=WORKER,
            device="",
            created_at=created_at,
            artifact_types=types,
            language=language,
        ),
    )
    yield from begun
    version = 1
    for group in found:
        head = BatchHead(
            run_id=run_id,
            video_id=video_id,
            tenant_id=meta.tenant_id,
            artifact_type=group.artifact_type,
            schema_version=group.schema_version,
            producer=wish.producer,
            producer_version=wish.producer_version,
            model_profile=wish.model_profile,
            config_hash=hashed,
            input_hash=content,
            created_at=created_at,
            actor=meta.actor,
            correlation_id=meta.correlation_id,
            causation_id=meta.causation_id,
        )
        for start in range(0, len(group.items), BATCH):
            part = group.items[start : start + BATCH]
            yield pack(head, version, part)
            version += len(part)
    counts = {
        name: sum(len(f.items) for f in same) for name, same in groupby(sorted(found, key=_name), key=_name)
    }
    started = run.evolve(None, begun[0])
    yield from run.decide(
        started, run.CompleteRun(stream_id=run_id, meta=meta, counts=counts, metrics={}, language=language)
    )
    yield from task.decide(
        state, task.CompleteTask(stream_id=task_id, meta=meta, run_id=run_id, artifact_count=version - 1)
    )


def _name(found: _Found) -> str:
    return found.artifact_type
