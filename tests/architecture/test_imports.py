"""Who may import whom, and what packages are called."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_go_one_way():
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--config", ROOT / ".importlinter"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_in_the_wheel_and_in_the_contracts():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == packages
    assert set(project["tool"]["mypy"]["packages"]) == packages
    contracts = (ROOT / ".importlinter").read_text()
    assert all(f"\n    {package}\n" in contracts for package in packages)


def test_listing_producers_and_asking_for_help_imports_no_model_library():
    heavy = ("torch", "ultralytics", "faster_whisper", "ctranslate2", "cv2", "scenedetect")
    code = (
        "import sys, workers\nfrom click.testing import CliRunner\nfrom eioku.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        f"sys.exit(' '.join(name for name in {heavy!r} if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0


def test_help_is_there_at_once():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "eioku", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    slow = {"litestar", "sqlalchemy", "psycopg", "numpy", "rich.console", "nats", "alembic", "eventsourcing"}
    assert imported & slow == set()
