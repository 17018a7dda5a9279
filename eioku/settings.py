"""Every setting of Eioku: one struct, read once at start from EIOKU_* variables and, below them, a TOML file.

Field `media_roots` is variable EIOKU_MEDIA_ROOTS and key `media_roots` of the file that EIOKU_CONFIG names.
All are described in docs/operations.md.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec

from api.authority import Authority, Origin
from domain.errors import InvalidParameter
from domain.off_peak import OffPeak, off_peak
from domain.pipeline import BY_NAME, FAMILIES
from eioku.toml_file import read_toml
from infrastructure.media.source_cache import refusal
from infrastructure.redaction import redacted, remember

PREFIX = "EIOKU_"
CONFIG_VARIABLE = "EIOKU_CONFIG"
_NOT_SETTINGS = {CONFIG_VARIABLE, "EIOKU_TEST_MEDIA", "EIOKU_JSON"}
_ROOT = re.compile(r"[a-z0-9]+://(?:\[[^]]*\]|[^/:]*)(?::\d+(?=[/:]|$))?[^:]*|[^:]+")
"""A URL prefix, which may name a port, or a folder."""
_MAX_PORT = 65535
_MOST_WORKERS = 64


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How this Eioku runs. The defaults need nothing: Postgres and NATS run as child processes under `data`."""

    data: Path = Path("data")
    """Folder for everything that is stored: databases, uploads, logs."""
    database_url: str | None = None
    """`postgresql://…` of your own Postgres (14 or newer); unset = an embedded one."""
    nats_url: str | None = None
    """`nats://…` of your own NATS (2.14 or newer, JetStream, sync_interval always); unset = an embedded one."""
    nats_replicas: int = 1
    """Copies of each stream: 1 on one machine, 3 on a cluster."""
    host: str = "127.0.0.1"
    """Address the API listens on. There is no authentication yet: open it to others only behind a proxy that has."""
    hosts: tuple[str, ...] = ()
    """Names under which the API is reached, separated by commas (`eioku.example.org,nas:8700`); localhost, 127.0.0.1,
    [::1] and `host` always count. A request for any other name is refused."""
    cors_origins: tuple[str, ...] = ()
    """Origins (`https://app.example.org`), separated by commas, whose pages may use the API; other sites' may not."""
    port: int = 8700
    """Port of the API; 0 takes a free one."""
    api_processes: int = 1
    """API processes that share the port."""
    api_url: str | None = None
    """Where the command line finds the API; unset = the one that runs on `data`."""
    workers: str = "auto"
    """auto (every family), none, or a list of families and task types: `light,asr:2` (two of asr) or `transcription`."""
    media_roots: tuple[str, ...] = ()
    """Folders and URL prefixes (`s3://bucket/films/`) whose files may be registered, separated by `:` as in PATH."""
    max_upload_bytes: int = 64 << 30
    """Largest upload that is taken, in bytes."""
    source_cache_bytes: int = 20 << 30
    """Room under `data` for copies of sources that are URLs, in bytes; a larger one is refused."""
    models_dir: Path | None = None
    """Folder with model weights; what a hub delivers lands here too. Unset = `models` under `data`."""
    detector_weights: Path | None = None
    """A file that Ultralytics loads (.pt, .onnx, .tflite) for object_detection; goes before everything else."""
    whisper_model: Path | None = None
    """A folder with a CTranslate2 Whisper model for transcription; goes before everything else."""
    places_model: Path | None = None
    """A Places365 checkpoint (ResNet, .pth.tar) for place_detection, its labels file beside it."""
    face_detector: Path | None = None
    """A YuNet model (.onnx) for face_detection; goes before everything else."""
    ocr_models: Path | None = None
    """A folder with text models as PaddleOCR has them, a folder each, for ocr; goes before everything else."""
    text_embedder: Path | None = None
    """A folder with a sentence-transformers model for embedding and semantic search; goes before everything else."""
    image_embedder: Path | None = None
    """A folder with a CLIP or SigLIP model for frame_embedding and search by picture; goes before everything else."""
    offline: bool = False
    """Never ask a model hub."""
    hub_timeout_s: float = 10.0
    """Seconds a model hub may take to answer before it counts as not there."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a CUDA GPU when there is one."""
    threads: int = 2
    """CPU threads one model may use."""
    videos_together: int | Literal["auto"] = "auto"
    """Videos that a torch worker does at once, with frames of all in a batch; auto = 1 on a CPU, several on a GPU."""
    pipeline_file: Path | None = None
    """What is done with new videos (TOML); unset = `pipeline.toml` under `data`, if it is there."""
    off_peak: str | None = None
    """When work that can wait is done: windows such as `22:00-06:00`, separated by commas. Unset = at any time."""
    off_peak_zone: str | None = None
    """Time zone of these windows, such as `Europe/Berlin`; unset = that of the machine."""
    off_peak_tasks: str = ""
    """Task types that wait for the window, separated by commas; empty = every task of class bulk."""
    vram_bytes: int | None = None
    """Bytes of a GPU that may be in use before models make room for others; unset = nine tenths of the card."""
    model_ram_bytes: int | None = None
    """Bytes of RAM that the models of one worker may keep; unset = a quarter of the machine's (or container's) memory."""
    deployment: str = "local"
    """Name of this installation in integration events: their source is `/eioku/<deployment>`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto = console on a terminal, JSON lines elsewhere."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, naming the variable."""
        for name, url, schemes in (
            ("DATABASE_URL", self.database_url, ("postgresql://", "postgres://")),
            ("NATS_URL", self.nats_url, ("nats://", "tls://")),
            ("API_URL", self.api_url, ("http://", "https://")),
        ):
            if url is not None and not url.startswith(schemes):
                raise InvalidParameter(PREFIX + name, f"must start with {' or '.join(schemes)}")
            if url is not None and name != "DATABASE_URL":  # libpq has a syntax of its own, and says what is wrong
                _check_addresses(PREFIX + name, url)
        for name, number, least, most in (
            ("PORT", self.port, 0, _MAX_PORT),
            ("API_PROCESSES", self.api_processes, 1, 64),
            ("THREADS", self.threads, 1, 1024),
            ("VIDEOS_TOGETHER", None if self.videos_together == "auto" else self.videos_together, 1, 16),
            ("NATS_REPLICAS", self.nats_replicas, 1, 5),
            ("MAX_UPLOAD_BYTES", self.max_upload_bytes, 1, 1 << 50),
            ("SOURCE_CACHE_BYTES", self.source_cache_bytes, 1, 1 << 50),
            ("HUB_TIMEOUT_S", self.hub_timeout_s, 0, 3600),
            ("VRAM_BYTES", self.vram_bytes, 1 << 20, 1 << 50),
            ("MODEL_RAM_BYTES", self.model_ram_bytes, 1 << 20, 1 << 50),
        ):
            if number is not None and not least <= number <= most:
                raise InvalidParameter(PREFIX + name, f"{number} is not between {least} and {most}")
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", self.deployment):
            raise InvalidParameter(PREFIX + "DEPLOYMENT", "letters, digits, dot, dash and underscore only")
        for name, path in (
            ("DETECTOR_WEIGHTS", self.detector_weights),
            ("WHISPER_MODEL", self.whisper_model),
            ("OCR_MODELS", self.ocr_models),
            ("PLACES_MODEL", self.places_model),
            ("TEXT_EMBEDDER", self.text_embedder),
            ("IMAGE_EMBEDDER", self.image_embedder),
            ("FACE_DETECTOR", self.face_detector),
        ):
            if path is not None and not path.exists():
                raise InvalidParameter(PREFIX + name, f"{path} does not exist")
        for root in self.media_roots:
            if "://" in root and (why := refusal(root)) is not None:
                raise InvalidParameter(PREFIX + "MEDIA_ROOTS", f"{root}: {why}")
        for host in self.hosts:
            if Authority.parse(host) is None:
                raise InvalidParameter(PREFIX + "HOSTS", f"{host!r} is no host name or address, with or without a port")
        for origin in self.cors_origins:
            if Origin.parse(origin) is None:
                raise InvalidParameter(PREFIX + "CORS_ORIGINS", f"{origin!r} is not like https://app.example.org")
        worker_families(self.workers)
        self.window()

    def window(self) -> OffPeak | None:
        """The off-peak window; None when work is done at any time.

        Raises:
            InvalidParameter: names what is wrong.
        """
        task_types = [name for part in self.off_peak_tasks.split(",") if (name := part.strip())]
        if self.off_peak is not None:
            return off_peak(self.off_peak, self.off_peak_zone, task_types)
        if task_types or self.off_peak_zone is not None:
            raise InvalidParameter(PREFIX + "OFF_PEAK", "is not set, but what belongs to it is")
        return None

    def __repr__(self) -> str:
        """The settings without their secrets."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"

    def shown(self) -> dict[str, Any]:
        """All values as they may be printed: passwords in URLs are masked."""
        values = msgspec.structs.asdict(self)
        return {
            name: redacted(value) if name.endswith("_url") and value is not None else value
            for name, value in values.items()
        }

    def environment(self) -> dict[str, str]:
        """The variables that make a child process read these very settings."""
        found: dict[str, str] = {}
        for name, value in msgspec.structs.asdict(self).items():
            if value is None or value == ():
                continue
            if isinstance(value, tuple):
                text = (os.pathsep if name == "media_roots" else ",").join(value)
            elif isinstance(value, bool):
                text = "true" if value else "false"
            else:
                text = str(value)
            found[PREFIX + name.upper()] = text
        return found


def _check_addresses(variable: str, urls: str) -> None:
    """Raise InvalidParameter unless each of these comma-separated URLs names a host, and a port if any."""
    for url in urls.split(","):
        try:
            parts = urlsplit(url.strip())
            usable = bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise InvalidParameter(variable, "is not a URL with a host and a port from 1 to 65535")


def worker_families(workers: str) -> dict[str, tuple[str, ...] | None]:
    """Families to run, each with the task types it takes (None = all of its family); empty for `none`.

    Raises:
        InvalidParameter: a word that is neither a family nor a task type.
    """
    if workers == "none":
        return {}
    if workers == "auto":
        return dict.fromkeys(FAMILIES)
    chosen: dict[str, tuple[str, ...] | None] = {}
    for word, _ in _worker_words(workers):
        if word in FAMILIES:
            chosen[word] = None
        elif word in BY_NAME:
            family = BY_NAME[word].family
            before = chosen.get(family, ())
            if before is not None:
                chosen[family] = (*before, word)
        else:
            known = ", ".join(("auto", "none", *FAMILIES, *BY_NAME))
            raise InvalidParameter("EIOKU_WORKERS", f"{word!r} is none of {known}")
    return chosen


def worker_counts(workers: str) -> dict[str, int]:
    """How many processes of each family to run; a family that is not in it has one. Raises as `worker_families`."""
    counts: dict[str, int] = {}
    for word, count in _worker_words(workers):
        if count > 1:
            family = BY_NAME[word].family if word in BY_NAME else word
            counts[family] = max(count, counts.get(family, 1))
    return counts


def _worker_words(workers: str) -> Iterator[tuple[str, int]]:
    """(family or task type, processes): `asr:2` is two of asr."""
    for part in (part.strip() for part in workers.split(",") if part.strip()):
        word, colon, count = part.partition(":")
        if colon and not (count.isdecimal() and 1 <= int(count) <= _MOST_WORKERS):
            raise InvalidParameter("EIOKU_WORKERS", f"{part!r}: not between 1 and {_MOST_WORKERS} processes")
        yield word, int(count or 1)


def load(environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """The settings: what is `given` (None counts as not given) beats EIOKU_* variables, they beat the file.

    Paths become absolute, so that child processes may run anywhere.

    Raises:
        InvalidParameter: a value is wrong; names the variable.
    """
    variables = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    if config := variables.get(CONFIG_VARIABLE):
        values |= _from_file(Path(config))
    values |= {
        name: value
        for name in Settings.__struct_fields__
        if (value := variables.get(PREFIX + name.upper())) not in (None, "")
    }
    values |= {name: value for name, value in given.items() if value is not None}
    for name in ("database_url", "nats_url", "api_url"):
        remember(str(values.get(name, "")))
    if isinstance(roots := values.get("media_roots"), str):
        values["media_roots"] = _ROOT.findall(roots)
    for name in ("hosts", "cors_origins"):
        if isinstance(listed := values.get(name), str):
            values[name] = [part.strip() for part in listed.split(",") if part.strip()]
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise _named(error) from error
    paths = {name: _absolute(path) for name in _PATHS if (path := getattr(settings, name)) is not None}
    roots = tuple(root if "://" in root else str(_absolute(Path(root))) for root in settings.media_roots)
    return msgspec.structs.replace(settings, **paths, media_roots=roots)


def unknown_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """EIOKU_* variables that nothing reads, each with the nearest name there is (or an empty string)."""
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__}
    variables = os.environ if environment is None else environment
    return {
        name: next(iter(get_close_matches(name, known, n=1)), "")
        for name in variables
        if name.startswith(PREFIX) and name not in known | _NOT_SETTINGS and not _is_flag(name)
    }


def _is_flag(name: str) -> bool:
    """Whether the name is `EIOKU_<COMMAND>_<FLAG>`, which click reads."""
    commands = (
        "UP", "DEMO", "INGEST", "STATUS", "SEARCH", "JUMP", "WORKER", "API", "EVENTS", "PROJECTIONS", "DOCTOR",
        "QUEUE", "RERUN", "PIPELINE",
    )  # fmt: skip
    return name.split("_")[1] in commands


def _from_file(path: Path) -> dict[str, Any]:
    try:
        _, values = read_toml(path, CONFIG_VARIABLE)
    except FileNotFoundError as error:
        raise InvalidParameter(CONFIG_VARIABLE, f"there is no {path}") from error
    for name in values:
        if name not in Settings.__struct_fields__:
            near = get_close_matches(name, Settings.__struct_fields__, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidParameter(CONFIG_VARIABLE, f"{path}: there is no setting {name!r}{hint}")
    return values


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`")


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 — not resolve(): what a link is stays a link


def _named(error: msgspec.ValidationError) -> InvalidParameter:
    if isinstance(error.__cause__, InvalidParameter):
        return error.__cause__
    message, _, place = str(error).partition(" - at `$.")
    field = re.split(r"[.\[`]", place)[0] if place else "settings"
    choices = _choices(field)
    return InvalidParameter(PREFIX + field.upper(), f"{message}; it takes {' or '.join(choices)}" if choices else message)


def _choices(field: str) -> list[str]:
    """What a setting takes that knows some words only."""
    hint = get_type_hints(Settings).get(field)
    kinds = [hint] if get_origin(hint) is Literal else list(get_args(hint))
    words = [str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return ["a whole number", *words] if words and int in kinds else words


_PATHS = tuple(name for name, hint in get_type_hints(Settings).items() if hint in (Path, Path | None))
