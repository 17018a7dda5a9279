"""A video small enough to make by the dozen: that of the conformance suite."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "conformance_run", Path(__file__).resolve().parents[1] / "conformance" / "run.py"
)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


def tiny_avi(path: Path, seed: str = "") -> Path:
    """Write a 2-second AVI of 16 x 16 pixels whose pixels depend on `seed`, or the name."""
    path.write_bytes(_module.tiny_avi(seed or path.name))
    return path
