"""Reads over HTTP on workload W1 (1,000 videos, 311,000 artifacts), with the peer's own figures beside them.

    python -m benchmarks.api [--videos 1000] [--calls 300] [--processes 2]

The API runs in processes of its own; the client is one keep-alive connection on loopback, latency includes the body.
"""

import argparse
from uuid import UUID

from benchmarks import stand, w1
from benchmarks.http_load import latencies_ms, percentile, throughput
from eioku.settings import Settings
from projectors import PROJECTIONS

PEER = {
    "jump in video, object": (44.9, 128.0),
    "jump in video, scene": (5.1, 8.2),
    "find in transcript": (3.9, 13.4),
    "find, two words": (5.5, 10.7),
    "global next, object": (5.7, 11.0),
    "global prev, object": (15.5, 61.5),
    "global next, person": (5.8, 10.5),
    "global next, rarest label": (4.8, 7.1),
    "global next, confidence 0.9, limit 50": (7.4, 17.8),
    "global next, kubernetes": (7.2, 15.3),
    "global next, project": (5.7, 17.1),
    "global next, meeting": (5.3, 11.5),
    "global next, no match": (112.0, 224.0),
    "global next, location": (4.1, 13.2),
    "global next, city": (6.4, 19.2),
    "global next, scene": (8.2, 19.4),
    "gallery, person": (209.0, 435.0),
    "gallery, person by video": (214.0, 425.0),
    "gallery, text": (187.0, 365.0),
}
"""p50 and p99 in ms, the better of its two runs, on the same kind of machine (2 cores); not measured in this run."""


def load(settings: Settings, videos: int) -> list[UUID]:
    """Fill the read models with W1 and analyse them; the videos' ids."""
    with stand.connect(settings) as connection:
        spent = w1.load_read_models(connection, PROJECTIONS, count=videos)
        connection.execute("VACUUM ANALYZE")
    print(f"loaded in {sum(spent.values()):.0f} s")
    return [film.video_id for film in w1.films(videos)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="API reads on W1")
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    with stand.tree(with_roles=True, workers="none", api_processes=args.processes) as tree:
        films = load(tree.settings, args.videos)
        rows: list[tuple[object, ...]] = []
        for name, path in w1.questions(films).items():
            took = latencies_ms(tree.api_url, path, calls=args.calls)
            p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
            peer = PEER.get(name)
            rows.append((name, p50, percentile(took, 0.95), p99, *((*peer, peer[0] / p50) if peer else ("", "", ""))))
        stand.show("one client, ms", ("", "p50", "p95", "p99", "peer p50", "peer p99", "peer ÷ ours"), rows)
        path = w1.questions(films)["global next, object"]
        rows = []
        for clients in (1, 8):
            rate, p50, p99 = throughput(tree.api_url, path, clients=clients, calls=4000 // clients)
            rows.append((f"global next, object, {clients} clients", rate, p50, p99))
        title = f"throughput, {args.processes} API processes (the peer: 171 req/s with 8 clients)"
        stand.show(title, ("", "req/s", "p50", "p99"), rows)


if __name__ == "__main__":
    main()
