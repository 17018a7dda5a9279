"""Writes `schemas/`: what clients and other systems rely on, generated from the code and committed.

`python -m eioku.schemas` writes, `--check` says what is not current.
"""

import sys
from pathlib import Path
from typing import Any, cast

import msgspec
import yaml

from api.app import create_app
from api.services import ApiServices
from application.ports import EventLog
from domain.artifacts import ARTIFACT_TYPES
from infrastructure.nats import asyncapi

FOLDER = Path(__file__).resolve().parents[1] / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def generate() -> dict[str, str]:
    """File name below `schemas/` → content."""
    files = {
        "openapi.json": _json(_openapi()),
        "asyncapi.yaml": yaml.safe_dump(asyncapi.document(), sort_keys=False, allow_unicode=True, width=120),
    }
    for payload in ARTIFACT_TYPES:
        schema = {"$schema": _DIALECT, "title": payload.NAME, **msgspec.json.schema(payload)}
        files[f"artifacts/{payload.NAME}.v{payload.VERSION}.json"] = _json(schema)
    for event, body in asyncapi.published().items():
        schema = {"$schema": _DIALECT, "title": event.TOPIC, **msgspec.json.schema(body)}
        files[f"events/{event.TOPIC}.v{event.SCHEMA}.json"] = _json(schema)
    return files


def stale(folder: Path = FOLDER) -> list[str]:
    """Files that are missing, not current, or of something that is no more."""
    wanted = generate()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    differing = {name for name, content in wanted.items() if name in found and (folder / name).read_text() != content}
    return sorted((set(wanted) - found) | (found - set(wanted)) | differing)


def write(folder: Path = FOLDER) -> None:
    """Make the folder hold exactly what the code says."""
    wanted = generate()
    for name in stale(folder):
        if name not in wanted:
            (folder / name).unlink()
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(wanted[name])


def _openapi() -> Any:
    # Describing the API touches neither log nor database.
    services = ApiServices(log=cast("EventLog", None), database_url="postgresql://", data_dir=Path("data"))
    return _steady(create_app(services).openapi_schema.to_schema())


def _steady(node: Any) -> Any:
    """The same with the values of enumerations in order: Litestar takes them from sets, another order each time."""
    if isinstance(node, dict):
        return {
            key: sorted(value, key=str) if key == "enum" and isinstance(value, list) else _steady(value)
            for key, value in node.items()
        }
    return [_steady(value) for value in node] if isinstance(node, list | tuple) else node


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value, order="sorted")).decode() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        if outdated := stale():
            sys.exit("not current, run `make schemas` and commit: " + ", ".join(outdated))
    else:
        write()
