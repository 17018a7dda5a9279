"""The Places365 checkpoint comes from its authors' server when it is nowhere else: real downloads, from a server of ours."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workers import models, places_weights
from workers.models import FoundModel, MissingModel, find_model
from workers.producer import ModelPlaces

CHECKPOINT = "resnet18_places365.pth.tar"


class Hub(ThreadingHTTPServer):
    """Answers for the files it has; `cut` sends fewer bytes than it says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = {
            "categories_places365.txt": b"/a/airfield 0\n",
            "IO_places365.txt": b"/a/airfield 2\n",
            CHECKPOINT: b"weights" * 1000,
        }
        self.cut: str | None = None
        self.asked: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        self.server.asked.append(name)
        body = self.server.files.get(name)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body[:10] if body and name == self.server.cut else body or b"")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(models, "_hub_failed", {})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(places_weights, "PLACES_HUB", f"{url}/models")
        monkeypatch.setattr(places_weights, "LABELS_HUB", f"{url}/labels")
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def find(folder: Path, **places: bool) -> FoundModel | MissingModel:
    return find_model("places", "resnet18", ModelPlaces(models_dir=folder, **places))


def test_it_is_fetched_with_its_labels_once(hub: Hub, tmp_path: Path) -> None:
    found = find(tmp_path / "models")
    assert isinstance(found, FoundModel)
    assert (found.name, found.source) == ("resnet18_places365", "hub")
    assert {path.name: path.read_bytes() for path in found.path.parent.iterdir()} == hub.files
    again = find(tmp_path / "models")
    assert isinstance(again, FoundModel)
    assert (again.path, again.source, len(hub.asked)) == (found.path, "folder", 3)


@pytest.mark.parametrize("flaw", ["a file is not there", "the connection breaks", "it is too large"])
def test_half_a_download_leaves_nothing_that_would_be_taken_for_a_checkpoint(
    hub: Hub, tmp_path: Path, flaw: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if flaw == "a file is not there":
        del hub.files[CHECKPOINT]
    elif flaw == "the connection breaks":
        hub.cut = CHECKPOINT
    else:
        monkeypatch.setattr(places_weights, "LARGEST_BYTES", 500)
    missing = find(tmp_path)
    assert isinstance(missing, MissingModel)
    assert CHECKPOINT in missing.missing
    assert "was not delivered" in missing.missing
    assert {path.name for path in tmp_path.iterdir()} == {"categories_places365.txt", "IO_places365.txt"}


def test_offline_nobody_is_asked(hub: Hub, tmp_path: Path) -> None:
    assert isinstance(find(tmp_path, is_offline=True), MissingModel)
    assert hub.asked == []
