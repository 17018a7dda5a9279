"""An upload that the disk does not take is refused, and nothing of it is left."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECEIVE = """
import asyncio, resource, sys
from pathlib import Path
from litestar.datastructures import Headers
from api.uploads import receive
from domain.errors import EiokuError

folder, size, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

async def body():
    yield b'--x\\r\\nContent-Disposition: form-data; name="file"; filename="a.mp4"\\r\\n\\r\\n'
    for _ in range(size // 1000):
        yield bytes(1000)
    yield b'\\r\\n--x--\\r\\n'

# The kernel then takes no more of a file, as a full disk does.
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
headers = Headers({"content-type": "multipart/form-data; boundary=x"})
try:
    upload = asyncio.run(receive(body(), headers, folder, max_bytes=10**9))
    print("kept", upload.size_bytes)
except EiokuError as error:
    print(error.code)
"""


@pytest.mark.parametrize(
    ("size", "most", "said"),
    [(5_000_000, 2_000_000, "UNAVAILABLE"), (50_000, 1_000, "UNAVAILABLE"), (2_000, 0, "UNAVAILABLE"), (50_000, 60_000, "kept 50000")],
)  # fmt: skip
def test_an_upload_to_a_full_disk_is_refused_and_leaves_nothing(tmp_path, size, most, said):
    ended = subprocess.run(
        [sys.executable, "-c", RECEIVE, str(tmp_path / "in"), str(size), str(most)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.strip() == said, ended.stderr
    assert len(list((tmp_path / "in").iterdir())) == (1 if said.startswith("kept") else 0)
