"""The committed contracts are what the code says."""

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from domain.artifacts import ARTIFACT_TYPES
from eioku import schemas

ROOT = Path(__file__).resolve().parents[2]


def test_committed_schemas_are_current():
    assert schemas.stale() == [], "run `make schemas` and commit"


def test_a_changed_and_a_forgotten_file_are_found(tmp_path):
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []
    (tmp_path / "events" / "video.registered.v1.json").write_text("{}")
    (tmp_path / "artifacts" / "scene.v1.json").unlink()
    (tmp_path / "events" / "gone.v1.json").write_text("{}")
    assert schemas.stale(tmp_path) == ["artifacts/scene.v1.json", "events/gone.v1.json", "events/video.registered.v1.json"]
    schemas.write(tmp_path)
    assert schemas.stale(tmp_path) == []


@pytest.mark.parametrize("payload", ARTIFACT_TYPES, ids=lambda payload: payload.NAME)
def test_an_example_obeys_its_published_schema(payload):
    schema = json.loads((ROOT / f"schemas/artifacts/{payload.NAME}.v{payload.VERSION}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(msgspec.json.encode(payload.example())), schema)
