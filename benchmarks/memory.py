"""Steady memory: artifacts imported through the API in batches, the largest size of each process sampled meanwhile.

    python -m benchmarks.memory [--artifacts 2000000]
"""

import argparse
import http.client
import time
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from benchmarks import stand, w1
from benchmarks.processes import Process, Sampler, own_mb
from eioku.supervisor import Tree

_BODY = 5_000
"""Artifacts a request."""


def _send(tree: Tree, artifacts: int) -> None:
    parts = urlsplit(tree.api_url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    encode, rng, folder = msgspec.json.encode, Random(5), tree.settings.data / "films"
    folder.mkdir()

    def call(method: str, path: str, body: object) -> None:
        client.request(method, path, encode(body), {"Content-Type": "application/json"})
        answer = client.getresponse()
        said = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{path} -> {answer.status} {said[:300]!r}")

    video = ""
    for n in range(-(-artifacts // _BODY)):
        if n % 8 == 0:
            video = str(uuid4())
            (folder / f"{video}.mp4").write_bytes(video.encode())
            call("PUT", f"/v1/videos/{video}", {"source": str(folder / f"{video}.mp4"), "pipeline": []})
        items = [
            {
                "artifact_type": "object.detection", "schema_version": 1, "span_start_ms": i * 40, "span_end_ms": i * 40,
                "payload": {"label": w1.label(rng), "confidence": round(rng.uniform(0.5, 0.99), 3),
                            "box": [0.1, 0.1, 0.2, 0.2], "frame_index": i},
            }
            for i in range(_BODY)
        ]  # fmt: skip
        call("POST", f"/v1/videos/{video}/imports", {"producer": "bench", "producer_version": "1", "artifacts": items})
        if n % 40 == 39:
            print(f"{(n + 1) * _BODY:,} sent", flush=True)


def _most(process: Process) -> float:
    return max(sample.size_mb for sample in process.samples)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="memory under a large import")
    parser.add_argument("--artifacts", type=int, default=2_000_000)
    count = parser.parse_args().artifacts
    with stand.tree(with_roles=True, workers="none", media_roots="/") as tree, Sampler(own_mb) as sampler:
        begin = time.perf_counter()
        _send(tree, count)
        sent = time.perf_counter() - begin
        with stand.connect(tree.settings) as connection:
            while connection.execute(
                "SELECT min(notification_id) >= (SELECT max(position) FROM es.segment) FROM es.tracking"
                " WHERE application_name LIKE 'projection:%'"
            ).fetchone() != (True,):
                time.sleep(0.5)
        visible = time.perf_counter() - begin
    print(f"{count:,} artifacts sent in {sent:.0f} s ({count / sent:,.0f}/s), all visible after {visible:.0f} s")
    largest: dict[str, Process] = {}
    for process in sampler.processes.values():
        before = largest.setdefault(process.name, process)
        if _most(process) > _most(before):
            largest[process.name] = process
    rows = [
        (name, process.samples[len(process.samples) // 2].size_mb, process.samples[-1].size_mb, _most(process))
        for name, process in sorted(largest.items(), key=lambda item: -_most(item[1]))
    ]
    stand.show("memory of the largest process of each name, MB (shared buffers not counted)", ("", "half-way", "at the end", "peak"), rows)


if __name__ == "__main__":
    main()
