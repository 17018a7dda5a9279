"""Values for any field of an event: one fixed example, and a Hypothesis strategy."""

import types
from datetime import UTC, datetime
from typing import Any, Literal, Union, get_args, get_origin
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from hypothesis import strategies as st

AT = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def example(of: Any, name: str = "") -> Any:
    """A value of the type `of` that says the name of its field."""
    origin, inner = get_origin(of), get_args(of)
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return of(**{field.name: example(field.type, field.name) for field in msgspec.structs.fields(of)})
    if origin is Literal:
        return inner[0]
    if origin in (Union, types.UnionType):
        return example(next(kind for kind in inner if kind is not type(None)), name)
    if origin is tuple:
        return (example(inner[0], name),)
    if origin is dict:
        return {name: example(inner[1], name)}
    return {
        str: name,
        int: len(name),
        float: len(name) / 8,
        bool: True,
        UUID: uuid5(NAMESPACE_URL, name),
        datetime: AT,
        Any: [name, 1, 0.5, None, {"deeper": True}],
    }[of]


text = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | integers | floats | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: integers,
    float: floats,
    bool: st.booleans(),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
    Any: json_values,
}


def strategy(of: Any) -> st.SearchStrategy[Any]:
    """Any value of the type `of`."""
    origin, inner = get_origin(of), get_args(of)
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return st.builds(of, **{field.name: strategy(field.type) for field in msgspec.structs.fields(of)})
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(strategy, inner))
    if origin is tuple:
        return st.lists(strategy(inner[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(text, strategy(inner[1]), max_size=3)
    return _PLAIN[of]
