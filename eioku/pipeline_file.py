"""The pipeline file: what is done with new videos. Read at start; a wrong one stops it and names line, key and remedy."""

import re
from pathlib import Path

import msgspec

from domain.errors import InvalidParameter
from domain.pipeline import BY_NAME, DEFAULT_PIPELINE, DEFAULT_PROFILE
from domain.plan import Place, PlanError, Plans, plans_of
from eioku.settings import Settings
from eioku.toml_file import read_toml

VARIABLE = "EIOKU_PIPELINE_FILE"
NAME = "pipeline.toml"
_HEADER = re.compile(r"\s*\[(\[)?([^\[\]]+)\]")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def path_of(settings: Settings) -> Path:
    """Where the file is, or would be."""
    return settings.pipeline_file or settings.data / NAME


def load_plans(settings: Settings) -> Plans:
    """What the file says; the usual plan when none is named and none lies in the data folder.

    Raises:
        InvalidParameter: names the variable, and file, line and key.
    """
    path = path_of(settings)
    if settings.pipeline_file is None and not path.exists():
        return Plans()
    return read(path)


def read(path: Path) -> Plans:
    """What a file says; raises InvalidParameter as `load_plans` does."""
    try:
        text, values = read_toml(path, VARIABLE)
    except FileNotFoundError as error:
        raise InvalidParameter(VARIABLE, f"there is no {path}; `eioku pipeline init` writes one") from error
    try:
        return plans_of(values)
    except PlanError as error:
        line = line_of(text, error.place)
        key = ".".join(map(str, error.place))
        where = f"{path}, line {line}, {key}" if line else f"{path}, {key}"
        raise InvalidParameter(VARIABLE, f"{where}: {error}") from error


def line_of(text: str, place: Place) -> int:
    """The line, from 1, of the longest part of `place` that stands in the file; 0 when none does."""
    best = (0, 0)
    table: Place = ()
    arrays: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _indexed(_parts(header[2].strip()), arrays, is_new=header[1] is not None)
            here = table
        elif key := _KEY.match(line):
            here = (*table, *_parts(key[1]))
        else:
            continue
        if here == place[: len(here)] and len(here) > best[0]:
            best = (len(here), number)
    return best[1]


def _parts(dotted: str) -> Place:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _indexed(parts: Place, arrays: dict[Place, int], *, is_new: bool) -> Place:
    """The place of a table: names of arrays are followed by the number of their newest element."""
    if is_new:
        arrays[parts] = arrays.get(parts, -1) + 1
    found: list[str | int] = []
    for n, part in enumerate(parts, 1):
        found.append(part)
        if parts[:n] in arrays:
            found.append(arrays[parts[:n]])
    return tuple(found)


def default_text() -> str:
    """A commented file that changes nothing."""
    lines = [
        "# What Eioku does with new videos. Read when it starts; `eioku pipeline check` tells what is wrong with it.",
        "# A registration that names its own pipeline goes before `run`. Videos that are there already: `eioku rerun`.",
        "",
        "# Task types, in any order: what works on the results of others waits for them.",
        "run = [",
        *(f'    "{name}",' for name in DEFAULT_PIPELINE),
        *(f'    # "{name}",' for name in BY_NAME if name not in DEFAULT_PIPELINE),
        "]",
        "",
        "# How each is done: a profile (fast, balanced, high_quality), a language to force, parameters laid over the",
        "# profile's. Take away the # to change one.",
    ]
    for name, kind in BY_NAME.items():
        usual = ", ".join(f"{key} = {_toml(value)}" for key, value in kind.profiles[DEFAULT_PROFILE].items())
        lines += ["", f"# [task.{name}]", f'# profile = "{DEFAULT_PROFILE}"']
        if usual:
            lines.append(f"# config = {{ {usual} }}")
    return "\n".join([
        *lines,
        "",
        "# Something else for some videos: the first rule that fits counts. What it leaves out is as above.",
        "# [[for]]",
        '# collection = "lectures"',
        '# filename = "*.mp4"',
        '# run = ["metadata_extraction", "transcription"]',
        "# [for.task.transcription]",
        '# profile = "high_quality"',
        '# language = "en"',
        "",
    ])  # fmt: skip


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()
