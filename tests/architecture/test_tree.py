"""What must and must not be in the tree."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:  # an archive without its history
        return [path for path in ROOT.rglob("*.*") if path.is_file() and ".venv" not in path.parts]
    return [ROOT / name for name in done.stdout.split("\0") if name]


def texts():
    for path in tracked():
        if path.is_file() and path.name != "LICENSE" and path != Path(__file__).resolve():
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text()
            except UnicodeDecodeError:
                continue


def test_no_package_index_is_named():
    hosts = re.compile(r"pypi\.org|pythonhosted|--?(extra-)?index-url|find-links|download\.pytorch", re.IGNORECASE)
    assert [name for name, text in texts() if hosts.search(text)] == []


def test_no_path_of_one_machine_is_named():
    paths = re.compile(r"(?<![\w.])/(work|home/\w+|Users)/|/root/(?!\.)\w")
    assert [name for name, text in texts() if paths.search(text)] == []


def test_nothing_is_left_for_later():
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|NotImplementedError")
    assert [name for name, text in texts() if name.endswith(".py") and marks.search(text)] == []


def test_every_decision_that_code_cites_is_written_down():
    written = {path.name[:4] for path in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    cited = {(name, number) for name, text in texts() for number in re.findall(r"ADR-(\d{4})", text)}
    assert [(name, number) for name, number in sorted(cited) if number not in written] == []
    assert len(written) == len(list((ROOT / "docs" / "adr").glob("[0-9]*.md")))


def test_every_link_in_the_documents_leads_somewhere():
    links = [
        (path, target)
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text())
        if "://" not in target
    ]
    assert links
    assert [(path.name, target) for path, target in links if not (path.parent / target).exists()] == []


def test_every_file_and_make_target_that_the_documents_name_exists():
    makefile = (ROOT / "Makefile").read_text()
    missing = []
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text()
        missing += [t for t in re.findall(r"`?make ([a-z-]+)", text) if f"\n{t}:" not in makefile and "`make " + t in text]
        names = re.findall(r"`((?:domain|application|infrastructure|projectors|workers|api|eioku|examples|tests)/[\w/]+\.py)", text)
        missing += [name for name in names if not (ROOT / name).exists() and "gesture" not in name]
    assert missing == []


def test_the_readme_names_both_commands_and_the_licence():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert "AGPL" in readme
    assert "Ultralytics" in readme
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys\nfrom hatchling.build import build_wheel\n"
        "print(build_wheel(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(folder / done.stdout.strip().splitlines()[-1])


def test_the_wheel_holds_all_code_and_migrations(wheel):
    names = set(wheel.namelist())
    packages = ("eioku", "domain", "application", "infrastructure", "projectors", "workers", "api", "migrations")
    ours = {p.relative_to(ROOT).as_posix() for p in tracked() if p.relative_to(ROOT).parts[0] in packages and p.exists()}
    assert ours <= names
    assert any(name.startswith("migrations/versions/m0001") for name in names)
    assert [name for name in names if name.startswith("tests")] == []


def test_the_installed_wheel_helps_and_finds_its_migrations(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\n"
        "import migrations\nassert migrations.__file__.startswith(sys.argv[1]), migrations.__file__\n"
        "from alembic.script import ScriptDirectory\n"
        "print(ScriptDirectory.from_config(migrations.configuration()).get_current_head())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, tmp_path], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
