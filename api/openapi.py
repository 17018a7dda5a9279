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
_PROBLEM = {
    "description": "Refused, see `code`.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """What the framework derives from handlers, plus what all of them share."""
    schemas = document["components"]["schemas"]
    from api.problems import Problem
    from api.routes.videos import VideoBody

    for struct in (Problem, VideoBody):
        _, found = msgspec.json.schema_components((struct,), ref_template="#/components/schemas/{name}")
        for name, schema in found.items():
            schemas.setdefault(name, schema)
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
