"""One attempt at one task: give it to a slot of the child, send what it finds, watch over it, answer for the command."""

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog

from application import messages
from application.message_checks import cleaned
from application.messages import (
    Fault,
    KnownWanted,
    Progress,
    ResultMessage,
    SpansWanted,
    TaskMessage,
    TextsWanted,
)
from domain.errors import (
    EiokuError,
    JobCancelled,
    JobTimedOut,
    ModelUnavailable,
    ServiceUnavailable,
    WorkerDied,
)
from domain.pipeline import BY_NAME
from domain.task import run_id_of
from infrastructure.media.source_cache import SourceCache
from infrastructure.nats import inputs, known, progress
from infrastructure.nats.cancel import Cancellations
from infrastructure.nats.commands import Delivery
from infrastructure.nats.connection import Bus
from infrastructure.nats.results import send
from infrastructure.nats.streams import ACK_WAIT_S, MAX_DELIVER
from workers import assist, capability
from workers.child import Slot
from workers.producer import Description, ModelPlaces, Producer
from workers.protocol import Aided, Assignment, Described, Finished, Packed, Refusal
from workers.sharing import Shareable

logger = structlog.get_logger()

WATCH_S = 0.1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    load_s: float = 900.0
    """Without a sign of life until the model is loaded, a download included."""
    stall_s: float = 300.0
    """Without progress; then the job is ended and tried again."""
    deadline_s: float = 6 * 3600.0
    """For a whole job; then it has failed."""
    cancel_s: float = 1.5
    """For a cancelled job to stop by itself; then it is ended."""
    retry_s: float = 5.0
    """Before the second attempt; four times as long before each further one."""
    most_retry_s: float = 600.0
    most_deliveries: int = MAX_DELIVER
    """When the last of them ends in an error that may pass, the task is parked."""
    heartbeat_s: float = ACK_WAIT_S / 3
    progress_s: float = 0.5
    """Between two words about progress, unless it moved a hundredth."""
    repeat_s: float = 5.0
    """Until the same is told once more: nothing is kept for who listens late."""


class Attempt:
    """What is known of the attempt while it lasts."""

    def __init__(
        self,
        delivery: Delivery,
        slot: Slot,
        producer: type[Producer] | None,
        bus: Bus,
        cancellations: Cancellations,
        *,
        worker: str,
        models: ModelPlaces,
        sources: SourceCache,
        pictures: Path,
        limits: Limits,
    ) -> None:
        """`producer` None: nobody can do this task here."""
        self._delivery, self._slot, self._producer = delivery, slot, producer
        self._bus, self._cancellations = bus, cancellations
        self._worker, self._models, self._sources, self._limits = worker, models, sources, limits
        self._pictures = pictures
        self._message: TaskMessage = delivery.message
        self._run_id = run_id_of(self._message.task_id, self._message.request_version, delivery.delivery)
        self._begun, self._begun_at = time.monotonic(), datetime.now(UTC)
        self._sent = 0
        self._described: float | None = None
        """When the model was loaded, on the monotonic clock."""
        self._is_over_deadline = False
        self._leading: asyncio.Task[None] | None = None
        """Lets other workers help."""
        self._log = logger.bind(task_id=str(self._message.task_id), run_id=str(self._run_id))

    async def run(self) -> None:
        """Do the job and answer for it. Cancel it to give the job to somebody else at once.

        Raises:
            ServiceUnavailable: NATS did not take the answer; the task comes again.
        """
        doing = asyncio.create_task(self._do())
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                await watching  # it never ends by itself: raises what went wrong
            await doing
        finally:
            watching.cancel()
            if not doing.done():
                doing.cancel()
            await asyncio.wait((doing, watching))

    # ---- the job -------------------------------------------------------------------------------------------------

    async def _do(self) -> None:
        try:
            try:
                await self._compute()
            finally:
                self._slot.leave()
        except asyncio.CancelledError:
            self._slot.kill(WorkerDied("the worker is stopping"))
            await self._delivery.later(0)
            raise
        except EiokuError as error:
            if isinstance(error, ServiceUnavailable):
                raise
            if self._slot.has_died_of_others:
                # At once: from the second delivery on it is done alone (ADR-0017).
                self._log.warning("job.interrupted", reason=f"{error.code}: {error}")
                await self._delivery.later(0)
            else:
                fault = Fault(code=error.code, error=str(error), remedy=error.remedy)
                if error.retryable and not self._is_over_deadline:
                    await self._again(fault, is_unexplained=error.is_unexplained)
                else:
                    await self._fail(fault, retryable=error.retryable)
        finally:
            if self._leading is not None:
                self._leading.cancel()
                await asyncio.wait((self._leading,))

    async def _compute(self) -> None:
        """Raises what ended the job: an error of the child, or the reason it was killed for."""
        message = self._message
        if self._cancellations.has(message):
            await self._delivery.done()
            return
        if self._producer is None:
            missing = f"nobody here does {message.task_type}"
            await self._unavailable(missing, capability.remedy(message.task_type))
            return
        found = await self._inputs(self._producer)
        self._log.info("job.started", task_type=message.task_type, delivery=self._delivery.delivery)
        self._slot.assign(
            Assignment(
                number=self._slot.number,
                wire=self._slot.wire,
                message=message,
                run_id=self._run_id,
                delivery=self._delivery.delivery,
                models=self._models,
                sources=self._sources,
                pictures=self._pictures,
                **found,
                worker=self._worker,
                started_at=self._begun_at,
            )
        )
        parts = 0
        while True:
            match await self._slot.hear():
                case Aided():
                    pass
                case Described(description):
                    earlier = await self._known(description)
                    if earlier is not None:
                        await self._reuse(earlier)
                        return
                    await self._start(description)
                    if issubclass(self._producer, Shareable):
                        leading = assist.lead(self._bus, message, self._run_id, self._slot.child)
                        self._leading = asyncio.create_task(leading)
                case Packed(batch):
                    parts += 1
                    await self._send(messages.Produced(**self._head(), part=parts, batch=batch))
                case Finished() as finished:
                    await self._complete(finished, parts)
                    return
                case Refusal() as refusal:
                    await self._refused(refusal)
                    return

    async def _inputs(self, producer: type[Producer]) -> dict[str, Any]:
        """What the job works on, as it counts now."""
        message = self._message
        found: dict[str, Any] = {}
        of: dict[str, Any] = {
            "tenant_id": message.tenant_id,
            "video_id": message.video_id,
            "position": message.position,
        }
        if producer.needs:
            texts = TextsWanted(artifact_types=producer.needs, **of)
            found["texts"] = await inputs.ask_texts(self._bus, texts)
        if producer.needs_spans:
            spans = SpansWanted(artifact_types=producer.needs_spans, **of)
            found["spans"] = await inputs.ask_spans(self._bus, spans)
        return found

    async def _known(self, description: Description) -> UUID | None:
        """The completed run of an earlier task that this one would only repeat (ADR-0021)."""
        message, producer, model = self._message, self._producer, description.model
        assert producer is not None
        if message.force or message.blake3 is None or not BY_NAME[message.task_type].after:
            return None  # computed again for a reason, or it is what tells the content
        if producer.needs or producer.needs_spans:
            return None  # it works on more than the content
        if model is not None and model.digest is None:
            return None
        wanted = KnownWanted(
            tenant_id=message.tenant_id,
            video_id=message.video_id,
            task_type=message.task_type,
            profile=message.profile,
            config_hash=message.config_hash,
            input_hash=message.blake3,
            producer=producer.name,
            producer_version=producer.version,
            model_name=None if model is None else model.name,
            model_digest=None if model is None else model.digest,
            position=message.position,
        )
        return await known.ask(self._bus, wanted)

    async def _reuse(self, run_id: UUID) -> None:
        """The child has begun meanwhile: what it finds before it hears is nobody's."""
        self._described = time.monotonic()
        self._slot.pulse.cancel(self._slot.number)
        await self._send(messages.Reused(**self._head(), known=run_id))
        while not isinstance(await self._slot.hear(), Finished | Refusal):
            pass
        await self._delivery.done()
        self._log.info("job.reused", known=str(run_id))

    async def _start(self, description: Description) -> None:
        self._described = time.monotonic()
        assert self._producer is not None
        message = self._message
        await self._send(
            messages.Started(
                **(self._head() | {"at": self._begun_at}),
                task_type=message.task_type,
                producer=self._producer.name,
                producer_version=self._producer.version,
                profile=message.profile,
                config=message.config,
                config_hash=message.config_hash,
                input_hash=message.blake3 or "",
                device=description.device,
                artifact_types=description.artifact_types,
                language=description.language or message.language,
                model=description.model,
            )
        )

    async def _complete(self, finished: Finished, parts: int) -> None:
        outcome = finished.outcome
        seconds = round(time.monotonic() - self._begun, 3)
        await self._send(
            messages.Completed(
                **self._head(),
                parts=parts,
                counts=finished.counts,
                metrics={"seconds": seconds, **outcome.metrics},
                language=outcome.language,
                blake3=outcome.blake3,
                size_bytes=outcome.size_bytes,
                facts=outcome.facts,
                flaw=outcome.flaw,
            )
        )
        await self._delivery.done()
        if (flaw := outcome.flaw) is not None:
            self._log.warning("job.failed", code=flaw.code, error=flaw.error)
            return
        self._log.info("job.completed", artifacts=sum(finished.counts.values()), seconds=seconds)

    async def _refused(self, refusal: Refusal) -> None:
        if refusal.missing is not None:
            await self._unavailable(refusal.missing, refusal.remedy)
            return
        fault = Fault(code=refusal.code, error=refusal.error, remedy=refusal.remedy)
        if refusal.retryable and not refusal.needs_a_hand:
            await self._again(fault, is_unexplained=refusal.is_unexplained)
        else:
            await self._fail(fault, retryable=refusal.retryable)

    # ---- its end -------------------------------------------------------------------------------------------------

    async def _fail(self, fault: Fault, *, retryable: bool) -> None:
        """Another attempt now would not help."""
        await self._account()
        told = messages.Failed(
            **self._head(), code=fault.code, error=fault.error, remedy=fault.remedy, retryable=retryable
        )
        await self._send(told)
        await self._delivery.done()
        self._log.warning("job.failed", code=fault.code, error=fault.error)

    async def _account(self) -> None:
        """For a run that ended before it began: it is accounted for like any other."""
        if self._described is None:
            await self._start(
                Description(device="", artifact_types=BY_NAME[self._message.task_type].produces)
            )

    async def _unavailable(self, missing: str, remedy: str) -> None:
        await self._send(messages.Unavailable(**self._head(), missing=missing, remedy=remedy))
        await self._delivery.done()
        self._log.warning("job.unavailable", missing=missing, code=ModelUnavailable.code)

    async def _again(self, fault: Fault, *, is_unexplained: bool) -> None:
        """Another attempt may help; after the last one a person must look."""
        number, most = self._delivery.delivery, self._limits.most_deliveries
        reason = f"{fault.code}: {fault.error}"
        await self._account()
        if number >= most:
            self._log.error("job.given_up", reason=reason, deliveries=number)
            await self._delivery.reject(f"{reason} (attempt {number} of {most})")
            return
        delay_s = min(self._limits.most_retry_s, self._limits.retry_s * 4 ** (number - 1))
        delay_s *= 1 + random.random() / 10  # noqa: S311 - so that not all come back at once
        next_try_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        told = messages.Postponed(
            **self._head(), fault=fault, is_unexplained=is_unexplained, next_try_at=next_try_at
        )
        await self._send(told)
        self._log.warning("job.again", reason=reason, deliveries=number, again_in_s=round(delay_s, 1))
        await self._delivery.later(delay_s)

    def _head(self) -> dict[str, Any]:
        message = self._message
        return {
            "tenant_id": message.tenant_id,
            "task_id": message.task_id,
            "video_id": message.video_id,
            "run_id": self._run_id,
            "request_version": message.request_version,
            "delivery": self._delivery.delivery,
            "worker": self._worker,
            "correlation_id": message.correlation_id,
            "at": datetime.now(UTC),
        }

    async def _send(self, result: ResultMessage) -> None:
        self._sent += 1
        await send(self._bus, cleaned(result), self._sent)

    # ---- watching over it ----------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Signs of life, progress, limits and cancellation; until it is cancelled."""
        cancelled = asyncio.create_task(self._cancellations.wait(self._message))
        beating = asyncio.create_task(self._beat())
        try:
            await asyncio.wait((cancelled, beating), return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                await beating
            self._log.info("job.cancelled")
            self._slot.pulse.cancel(self._slot.number)
            await asyncio.wait((beating,), timeout=self._limits.cancel_s)
            while self._slot.listens_since is None and not beating.done():
                # It has stopped, or its last artifacts are being sent.
                await asyncio.wait((beating,), timeout=WATCH_S)
            self._slot.kill(JobCancelled("the task was cancelled"))
            await beating
        finally:
            for task in (cancelled, beating):
                task.cancel()
            await asyncio.wait((cancelled, beating))

    async def _beat(self) -> None:
        """The heartbeat cannot outlive the progress: a job that does not move is ended."""
        pulse, limits = self._slot.pulse, self._limits
        moved = beaten = told = time.monotonic()
        ticks, told_progress = pulse.ticks, (0, 0, 0, 0)
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            if pulse.ticks != ticks:
                moved, ticks = now, pulse.ticks
            self._check_limits(now, moved)
            if now - beaten >= limits.heartbeat_s:
                beaten = now
                await self._delivery.heartbeat()
            so_far = (*pulse.progress, *pulse.fetched)
            has_moved = 0 < so_far[1] <= 100 * (so_far[0] - told_progress[0])
            is_news = so_far != told_progress and (has_moved or now - told >= limits.progress_s)
            if is_news or (any(so_far) and now - told >= limits.repeat_s):
                told, told_progress = now, so_far
                await self._tell(*so_far)

    def _check_limits(self, now: float, moved: float) -> None:
        limits, listens_since = self._limits, self._slot.listens_since
        if now - self._begun > limits.deadline_s:
            self._is_over_deadline = True
            self._slot.kill(JobTimedOut(f"it took longer than {limits.deadline_s:g} s"))
        if listens_since is None:
            return  # the child waits for us, not we for it
        silent_s = now - max(moved, listens_since)
        if self._described is None and silent_s > limits.load_s:
            self._slot.kill(JobTimedOut(f"the model was not loaded within {limits.load_s:g} s"))
        elif self._described is not None and silent_s > limits.stall_s:
            self._slot.kill(JobTimedOut(f"no progress for {limits.stall_s:g} s"))

    async def _tell(self, done_ms: int, total_ms: int, fetched_bytes: int, source_bytes: int) -> None:
        seconds = time.monotonic() - (self._described or self._begun)
        rate = done_ms / 1000 / seconds if seconds > 0 and total_ms else None
        await progress.publish(
            self._bus,
            self._message.tenant_id,
            Progress(
                task_id=self._message.task_id,
                run_id=self._run_id,
                done_ms=done_ms,
                total_ms=total_ms,
                fetched_bytes=fetched_bytes,
                source_bytes=source_bytes,
                rate=None if rate is None else round(rate, 2),
                eta_s=round(max(0, total_ms - done_ms) / 1000 / rate, 1) if rate else None,
                worker=self._worker,
            ),
        )
