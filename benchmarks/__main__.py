"""Every benchmark, one after the other: `make bench`. Figures of the last run are in benchmarks/README.md.

The soak takes hours and runs only when it is named.
"""

import subprocess
import sys

BENCHMARKS = ("append", "pipeline", "lag", "dispatch", "decode", "api", "memory", "speech", "producers", "batches", "soak")


def main() -> int:
    """Run those named on the command line, or all but the soak; each in a process of its own."""
    chosen = sys.argv[1:] or [name for name in BENCHMARKS if name != "soak"]
    if unknown := set(chosen) - set(BENCHMARKS):
        print(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in chosen:
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
