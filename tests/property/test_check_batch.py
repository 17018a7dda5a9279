"""The quick check of a packed batch and the plain one agree on everything."""

from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.artifacts import ARTIFACT_TYPES, check, check_batch
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item
from domain.errors import InvalidArtifact, SchemaNotFound
from tests.support.given import AT

ANY = UUID(int=1)
VALUES = st.sampled_from(
    [None, "", "a", "a\0b", "\\u0000", "é", 0, 1, -1, 0.5, 1.5, 2**40, True, [], [0, 0, 1, 1], [0, 0, 1], {}, [[0, 0]], "x" * 300]
)


def batch_of(artifact_type: str, items: list[Any], version: int = 1) -> ArtifactBatch:
    head = BatchHead(
        run_id=ANY, video_id=ANY, tenant_id="d", artifact_type=artifact_type, schema_version=version, producer="p",
        producer_version="1", model_profile="fast", config_hash="c", input_hash="", created_at=AT, actor="w", correlation_id=ANY,
    )  # fmt: skip
    return ArtifactBatch(head=head, first_version=1, count=len(items), items=msgspec.Raw(msgspec.json.encode(items)))


@st.composite
def items_of(draw: Any, payload: dict[str, Any]) -> Item:
    fields = dict(payload)
    for name in draw(st.lists(st.sampled_from([*payload, "unknown", "words"]), max_size=2)):
        if draw(st.booleans()):
            fields.pop(name, None)
        else:
            fields[name] = draw(VALUES)
    start, end = draw(st.sampled_from([(0, 0), (1, 2), (2, 1), (-1, 0), (0, 2**31), (5, 2**31 - 1)]))
    return Item(artifact_id=ANY, start_ms=start, end_ms=end, payload=fields)


def verdict(judge: Any) -> tuple[str, int] | None:
    try:
        judge()
    except InvalidArtifact as error:
        return error.reason, error.index
    return None


@pytest.mark.parametrize("kind", ARTIFACT_TYPES, ids=lambda kind: kind.NAME)
def test_both_checks_say_the_same(kind):
    payload = msgspec.to_builtins(kind.example())

    @settings(max_examples=150, deadline=None)
    @given(st.lists(items_of(payload), min_size=1, max_size=3))
    def law(items):
        assert verdict(lambda: check_batch(batch_of(kind.NAME, items))) == verdict(lambda: check(kind.NAME, 1, items))

    law()


@pytest.mark.parametrize("items", [b"", b"{", b"[]", b"{}", b'[{"artifact_id":"x"}]', b"[1]", b"\xff"])
def test_what_is_no_list_of_artifacts_is_invalid(items):
    batch = msgspec.structs.replace(batch_of("scene", [1]), items=msgspec.Raw(items))
    with pytest.raises(InvalidArtifact):
        check_batch(batch)


def test_an_unknown_type_or_version_is_not_found():
    for artifact_type, version in (("smell", 1), ("scene", 2)):
        with pytest.raises(SchemaNotFound):
            check_batch(batch_of(artifact_type, [], version))
