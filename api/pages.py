"""Answers that are lists, bounded in bytes."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response
from litestar.serialization import default_serializer

MOST_BYTES = 8 << 20
"""Of a page. Items are bounded by themselves, but a hundred long texts are more than anybody reads at once."""


class Page(Response[Any]):
    """Every JSON answer; a page that is too long ends earlier, and says that there is more."""

    def render(
        self, content: Any, media_type: str, enc_hook: Callable[[Any], Any] = default_serializer
    ) -> bytes:
        """The body."""
        body = super().render(content, media_type, enc_hook)
        if len(body) > MOST_BYTES and getattr(content, "has_more", None) is not None:
            return super().render(_shorter(content, len(body), enc_hook), media_type, enc_hook)
        return body


def _shorter(page: msgspec.Struct, size: int, enc_hook: Callable[[Any], Any]) -> msgspec.Struct:
    """`page` with its last items left out: each item has a cursor behind which the next page begins."""
    ((name, items),) = [
        (name, value) for name, value in msgspec.structs.asdict(page).items() if isinstance(value, list)
    ]
    kept = len(items)
    for item in reversed(items[1:]):
        size -= len(msgspec.json.encode(item, enc_hook=enc_hook)) + 1
        kept -= 1
        if size <= MOST_BYTES:
            break
    return msgspec.structs.replace(page, **{name: items[:kept], "has_more": True})
