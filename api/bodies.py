"""Request bodies: JSON, decoded strictly into the struct that the handler names."""

import re
from collections.abc import Generator, Hashable, Iterator
from functools import cache
from typing import Any, TypeVar

import msgspec
from litestar._openapi.schema_generation import SchemaCreator
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from api.problems import MalformedBody, UnsupportedMediaType
from domain.errors import InvalidParameter

T = TypeVar("T")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""NUL as JSON writes it; after an odd number of backslashes it is text about it."""


def decode(body: bytes, target: type[T]) -> T:
    """A JSON body as `target`.

    Raises:
        MalformedBody: no JSON.
        InvalidParameter: JSON of another shape, or text with NUL characters, which Postgres cannot hold.
    """
    try:
        # Parts that are decoded later, such as payloads, are not looked into by the decoder.
        body.decode()
        value: T = _decoder(target).decode(body)  # type: ignore[arg-type]  # types are hashable
    except msgspec.ValidationError as error:
        # The decoder stops at the first thing that does not fit, which may be before the place that is no JSON.
        _require_json(body)
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error
    if _NUL.search(body):
        # Rare, so only then is the whole body looked through.
        for path in _nul_paths(msgspec.json.decode(body), ""):
            raise InvalidParameter(path or "body", "text may not hold NUL characters")
    return value


def _require_json(body: bytes) -> None:
    try:
        _decoder(msgspec.Raw).decode(body)  # looked through, nothing made of it
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from error


@cache
def _decoder(target: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(target)


def _invalid(sentence: str) -> InvalidParameter:
    """The decoder's "Expected `int`, got `str` - at `$.a.b`" as an error that names a.b."""
    reason, _, place = sentence.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    if not path and "field `" in reason:
        # "Object missing required field `x`": the field is what is wrong.
        path = reason.split("field `", 1)[1].rstrip("`")
    elif "field `" in reason:
        path += "." + reason.split("field `", 1)[1].rstrip("`")
    return InvalidParameter(path or "body", reason)


def _nul_paths(value: Any, path: str) -> Iterator[str]:
    match value:
        case str():
            if "\0" in value:
                yield path
        case dict():
            for key, inner in value.items():
                if "\0" in key:
                    yield path
                yield from _nul_paths(inner, f"{path}.{key}" if path else key)
        case list():
            for index, inner in enumerate(value):
                yield from _nul_paths(inner, f"{path}[{index}]")
        case _:
            pass


class JsonBody(AbstractDTO[Any]):
    """Makes Litestar decode `data` with `decode`: strict types, one pass, our errors. It transfers nothing."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body as what the handler's `data` is annotated with."""
        kind = self.content_type()
        if kind not in ("", "application/json") and not kind.endswith("+json"):
            raise UnsupportedMediaType(f"send application/json, not {kind}")
        return decode(value, self.asgi_connection.route_handler.parsed_data_field.annotation)

    def content_type(self) -> str:
        """The media type of the body, lower case, without parameters."""
        said: str = self.asgi_connection.headers.get("content-type", "")
        return said.partition(";")[0].strip().lower()

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to prepare: there is no transfer model."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003
        schema_creator: SchemaCreator,
    ) -> Reference | Schema:
        """The schema of the struct itself."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:  # noqa: ARG003
        """None: there is no transfer model."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:  # noqa: ARG003
        """Never: there is no transfer model."""
        return False
