"""Bringing stored events of older shapes to the present one.

When an event's shape changes: raise its `SCHEMA`, add `(topic, old SCHEMA) → function` here, add a golden row of the
new shape under `tests/golden/`, and leave the old golden rows as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""The stored state at version n → at version n + 1, both as plain JSON values."""

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
