"""What killed processes leave of uploads is removed; films of a tenant that is called as the waiting place was are not."""

import os
import time

import pytest

from api.edge import TENANT
from api.uploads import ABANDONED_S, WAITING, remove_abandoned


@pytest.mark.parametrize("folder", [WAITING, "incoming"])
def test_only_what_was_abandoned_is_removed(tmp_path, folder):
    film = tmp_path / folder / "8c0a" / "11aa" / "a.part"
    film.parent.mkdir(parents=True)
    old, new, other = (tmp_path / folder / name for name in ("old.part", "new.part", "notes.txt"))
    for path in (film, old, new, other):
        path.write_bytes(b"x")
    long_ago = time.time() - ABANDONED_S - 60
    for path in (film, old, other):
        os.utime(path, (long_ago, long_ago))
    remove_abandoned(tmp_path)
    assert not old.exists()
    assert film.exists()
    assert new.exists()
    assert other.exists()


def test_there_need_be_no_waiting_place(tmp_path):
    remove_abandoned(tmp_path / "nothing")


def test_no_tenant_can_be_called_as_the_waiting_place():
    assert not TENANT.fullmatch(WAITING.encode())
    assert TENANT.fullmatch(b"incoming")
