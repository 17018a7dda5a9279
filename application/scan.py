"""Carries out the looks through folders that people asked for."""

import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import structlog

from application.handle import handle
from application.look import Fingerprint, Tally, look_through
from application.policies import SCANNER
from application.ports import Clock, EventLog, VideoIndex
from application.whereabouts import Whereabouts
from domain import scan
from domain.errors import EiokuError
from domain.event import Meta
from domain.scan import CompleteScan, Scan, ScanCompleted, ScanEvent, ScanProblem, ScanRequested

logger = structlog.get_logger()

TOPICS = tuple(event.TOPIC for event in scan.EVENTS)
WATCH_EVERY_S = 60.0
RETRY_S = 5.0


class _Look(msgspec.Struct):
    """A folder that is to be looked through, now or again."""

    state: Scan
    correlation_id: UUID
    due: float
    """On `time.monotonic`'s clock."""
    problems: Sequence[ScanProblem] = ()
    """Of the last look."""


class Scanner:
    """Carries out the scans that the log asks for, one after the other, and those that watch again and again.

    Needs no checkpoint: which scans are open is read from the log at the start.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        clock: Clock,
        videos: VideoIndex,
        roots: Sequence[str],
        fingerprint: Fingerprint,
        is_allowed: Callable[[str], bool],
        progress: Callable[[UUID, Tally], object] = lambda _scan_id, _tally: None,
        watch_every_s: float = WATCH_EVERY_S,
    ) -> None:
        """`roots`: the folders that media may lie in. `is_allowed`: whether a symlink may lead to that place."""
        self._log, self._clock, self._is_allowed = log, clock, is_allowed
        self._videos, self._roots, self._fingerprint = videos, roots, fingerprint
        self._progress, self._watch_every_s = progress, watch_every_s
        self._position = 0
        self._looks: dict[UUID, _Look] = {}

    def run(self, wait: Callable[[], object], stop: threading.Event) -> None:
        """Scan until `stop` is set. `wait` returns when there may be news in the log, and from time to time anyway."""
        while not stop.is_set():
            try:
                if not self.step(stop):
                    wait()
            except EiokuError as error:
                if not error.retryable:
                    raise
                logger.warning("scan.interrupted", error=repr(error), again_in_s=RETRY_S)
                stop.wait(RETRY_S)

    def step(self, stop: threading.Event | None = None) -> bool:
        """Look through one folder that is due; False when none is."""
        self._read()
        now = time.monotonic()
        due = [scan_id for scan_id, look in self._looks.items() if look.due <= now]
        if not due:
            return False
        self._look(due[0], self._looks[due[0]], stop)
        return True

    def _read(self) -> None:
        while records := self._log.read(self._position, kinds=TOPICS):
            for record in records:
                self._position = record.position
                if isinstance(record.item, ScanEvent):
                    self._note(record.item)

    def _note(self, event: ScanEvent) -> None:
        scan_id = event.originator_id
        look = self._looks.get(scan_id)
        if isinstance(event, ScanRequested):
            self._looks[scan_id] = _Look(scan.evolve(None, event), event.correlation_id, time.monotonic())
        elif look is not None:
            look.state = scan.evolve(look.state, event)
            if isinstance(event, ScanCompleted):
                look.problems = event.problems
            if look.state.has_completed and not look.state.is_watched:
                del self._looks[scan_id]

    def _look(self, scan_id: UUID, look: _Look, stop: threading.Event | None) -> None:
        state = look.state
        meta = Meta(
            at=self._clock(),
            tenant_id=state.tenant_id,
            actor=SCANNER,
            correlation_id=look.correlation_id,
            causation_id=str(scan_id),
        )
        tally = look_through(
            self._log,
            state.root,
            meta,
            recursive=state.recursive,
            where=Whereabouts(self._log, self._videos, self._roots),
            fingerprint=self._fingerprint,
            is_allowed=self._is_allowed,
            progress=lambda so_far: self._progress(scan_id, so_far),
            stop=stop,
        )
        if tally is None:
            return
        is_news = tally.has_news or tally.problems != list(look.problems)
        if is_news or not state.has_completed:
            self._complete(scan_id, meta, tally)
        look.due = time.monotonic() + self._watch_every_s

    def _complete(self, scan_id: UUID, meta: Meta, tally: Tally) -> None:
        logger.info(
            "scan.completed",
            scan_id=str(scan_id),
            found=tally.found,
            registered=tally.registered,
            changed=tally.changed,
            relocated=tally.relocated,
            missing=tally.missing,
            problems=tally.problem_count,
            passed_over=tally.passed_over_count,
        )
        wish = CompleteScan(
            stream_id=scan_id,
            meta=msgspec.structs.replace(meta, at=self._clock()),
            found=tally.found,
            registered=tally.registered,
            changed=tally.changed,
            problems=tuple(tally.problems),
            problem_count=tally.problem_count,
            relocated=tally.relocated,
            missing=tally.missing,
            passed_over=tuple(tally.passed_over),
            passed_over_count=tally.passed_over_count,
        )
        handle(self._log, wish)
