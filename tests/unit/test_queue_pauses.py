"""Who sees what of a paused queue: queues are shared, words of tenants are not."""

import msgspec
import pytest

from application.gate import pauses, pauses_of
from application.handle import handle
from domain.queue import BY_OTHERS, PauseQueue, ResumeQueue, queue_id_of
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog


def paused(tenant_id: str, *priorities: str, log: MemoryLog, reason: str = "bob says hello") -> None:
    meta = msgspec.structs.replace(META, tenant_id=tenant_id, actor="user:bob")
    wish = PauseQueue(stream_id=queue_id_of("ocr"), meta=meta, task_type="ocr", priorities=priorities, reason=reason)  # type: ignore[arg-type]
    handle(log, wish)


@pytest.mark.parametrize("tenant_id", ["alice", "carol", "default", ""])
def test_what_one_tenant_writes_is_not_shown_to_others(tenant_id):
    log = MemoryLog()
    paused("bob", "std", "bulk", log=log)
    seen = pauses(log, None, AT, tenant_id=tenant_id)
    assert set(seen) == {("std", "ocr"), ("bulk", "ocr")}, "that it is paused is no secret"
    assert {(each.by, each.reason) for each in seen.values()} == {("operator", BY_OTHERS)}


def test_its_own_words_are_shown():
    log = MemoryLog()
    paused("bob", "std", log=log)
    (seen,) = pauses_of(log, "ocr", None, AT, tenant_id="bob").values()
    assert (seen.by, seen.reason, seen.since) == ("user:bob", "bob says hello", AT)


def test_each_class_is_of_who_paused_it_last():
    log = MemoryLog()
    paused("bob", "std", log=log)
    paused("alice", "bulk", log=log, reason="alice says no")
    meta = msgspec.structs.replace(META, tenant_id="alice")
    handle(log, ResumeQueue(stream_id=queue_id_of("ocr"), meta=meta, task_type="ocr", priorities=("std",)))
    paused("alice", "std", log=log, reason="now mine")
    seen = pauses_of(log, "ocr", None, AT, tenant_id="alice")
    assert {name: each.reason for name, each in seen.items()} == {"std": "now mine", "bulk": "alice says no"}
    assert {each.reason for each in pauses_of(log, "ocr", None, AT, tenant_id="bob").values()} == {BY_OTHERS}
