"""The API's description of itself, and a page to read it that needs nothing from elsewhere."""

from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.enums import OpenAPIMediaType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from api.examples import COMPONENTS, UPLOADS

VERSION = "1.0.0"
ABOUT = """You film it, Eioku indexes it, you find it.

Ids are UUIDs, times are integer milliseconds of the media's own clock, spans are half-open. Writes answer the log
position at which their effect can be read (`Eioku-Position`); a read asks for it with `min_position`."""
PAGE = Path(__file__).with_name("docs.html")

_TENANT = {
    "name": "Eioku-Tenant",
    "in": "header",
    "required": False,
    "description": "Whose library; lower-case letters, digits and -.",
    "schema": {"type": "string", "default": "default", "pattern": "^[a-z0-9-]{1,63}$"},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same request gives the same answer; with another one, 409.",
    "schema": {"type": "string", "maxLength": 200},
}
_MIN_POSITION = {
    "name": "min_position",
    "in": "query",
    "required": False,
    "description": "Answer only once the read models have reached this position; else 504.",
    "schema": {"type": "integer", "minimum": 0},
}
_WAIT = {
    "name": "wait_ms",
    "in": "query",
    "required": False,
    "description": "How long to wait for `min_position`.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 30_000, "default": 2_000},
}
_POSITION = {"description": "Log position that the answer knows of.", "schema": {"type": "string"}}
STREAM = "/v1/videos/{video_id}/stream"
FILES = {
    STREAM: "*/*",
    "/v1/videos/{video_id}/clip": "video/mp4",
    "/v1/videos/{video_id}/poster": "image/webp",
    "/v1/videos/{video_id}/sprites/{index}": "image/webp",
    "/v1/thumbnails/{video_id}/{timestamp_ms}": "image/webp",
}
"""Answers that are files, with their media type; a video is sent as what its name says."""
KEPT = {*FILES, "/v1/videos/{video_id}/sprites.vtt"} - {STREAM, "/v1/videos/{video_id}/clip"}
"""Answers that carry an ETag."""
EVENTS = "/v1/tasks/{task_id}/events"
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["task", "progress", "end"]},
        "data": {"type": "string", "description": "JSON: the task, or its progress."},
    },
}
_PROBLEM = {
    "description": "Refused, see `code`.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """What the framework derives from handlers, plus what all of them share."""
    schemas = document["components"]["schemas"]
    from api.problems import Problem
    from api.routes import BODIES

    # The decoder's own description: it knows bounds, enumerations and that unknown members are refused.
    _, found = msgspec.json.schema_components((Problem, *BODIES), ref_template="#/components/schemas/{name}")
    schemas |= found
    for name, example in COMPONENTS.items():
        if name in schemas:
            schemas[name]["example"] = example
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _share(path, method, operation)
    return document


def _share(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    if path.startswith("/v1"):
        parameters.append(_TENANT)
        parameters.extend([_MIN_POSITION, _WAIT] if method in ("get", "head") else [_KEY])
    responses = operation["responses"]
    responses.pop("400", None)
    responses["default"] = _PROBLEM
    if path in FILES:
        content = {FILES[path]: {"schema": {"type": "string", "format": "binary"}}}
        responses["200"]["content"] = content
        if path == STREAM:
            responses["206"] = {"description": "The part that `Range` asked for.", "content": content}
            responses["416"] = _PROBLEM | {"description": "The range lies outside the file."}
    if path == EVENTS:
        responses["200"]["content"] = {"text/event-stream": {"schema": _EVENT}}
    if path in KEPT:
        responses["304"] = {"description": "The client has it already (`If-None-Match`)."}
    for status, answer in responses.items():
        if status.startswith("2") and path.startswith("/v1"):
            answer["headers"] = {**answer.get("headers", {}), "Eioku-Position": _POSITION}
    if (path, method) in UPLOADS:
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/VideoBody"}},
                "multipart/form-data": {"schema": UPLOADS[path, method]},
            },
        }
    if path.endswith("/imports"):
        for kind in ("text/vtt", "application/x-subrip"):
            operation["requestBody"]["content"][kind] = {"schema": {"type": "string"}}


def document(app: Litestar) -> dict[str, Any]:
    """The whole description as plain JSON values."""
    return complete(app.openapi_schema.to_schema())


class _Json(JsonRenderPlugin):
    """The framework insists on serving the description itself; let it serve the whole one."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The description as JSON."""
        return encoded(request.app)


def encoded(app: Litestar) -> bytes:
    """The whole description as JSON, made once."""
    if not hasattr(app.state, "openapi"):
        app.state.openapi = msgspec.json.encode(document(app))
    body: bytes = app.state.openapi
    return body


CONFIG = OpenAPIConfig(
    title="Eioku",
    version=VERSION,
    description=ABOUT,
    path="/schema",
    use_handler_docstrings=True,
    render_plugins=[_Json(path="/openapi.json", media_type=OpenAPIMediaType.OPENAPI_JSON)],
)
