"""A projector, or a rebuild, as a process of its own, for tests that kill it: `… follow|rebuild DATABASE_URL [NAME]`."""

import sys
import threading

from projectors.rebuild import rebuild
from projectors.runner import run_projections

if __name__ == "__main__":
    what, database_url, *names = sys.argv[1:]
    if what == "follow":
        run_projections(database_url, threading.Event())
    else:
        rebuild(database_url, names[0], lambda progress: print(progress.phase, progress.position, flush=True))
