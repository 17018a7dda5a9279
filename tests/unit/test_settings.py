"""Settings: read once, refused with the variable's name, shown without secrets."""

from pathlib import Path

import pytest

from domain.errors import InvalidParameter
from eioku.settings import Settings, load, unknown_variables, worker_counts, worker_families
from infrastructure.redaction import redacted

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_set_runs_everything_embedded_under_the_data_folder():
    settings = load({})
    assert settings.database_url is None
    assert settings.nats_url is None
    assert settings.data == Path.cwd() / "data"
    assert settings.host == "127.0.0.1"


def test_a_variable_beats_the_file_and_a_flag_beats_both(tmp_path):
    file = tmp_path / "eioku.toml"
    file.write_text('port = 1000\nthreads = 3\nhost = "0.0.0.0"\nmedia_roots = ["/films"]\n')
    environment = {"EIOKU_CONFIG": str(file), "EIOKU_PORT": "2000", "EIOKU_THREADS": "4"}
    settings = load(environment, threads=5, host=None)
    assert (settings.port, settings.threads, settings.host) == (2000, 5, "0.0.0.0")
    assert settings.media_roots == ("/films",)


def test_media_roots_are_separated_like_a_path_and_urls_stay_whole():
    settings = load({"EIOKU_MEDIA_ROOTS": "/films:s3://bucket/films/:~/clips:"})
    assert settings.media_roots == ("/films", "s3://bucket/films/", str(Path.home() / "clips"))
    roots = ("https://films.example:8443/a/", "http://[::1]:80", "/films", "s3://bucket", "/8443")
    assert load({"EIOKU_MEDIA_ROOTS": ":".join(roots)}).media_roots == roots
    assert load(Settings(media_roots=roots).environment()).media_roots == roots


@pytest.mark.parametrize("root", ["http://films.example/", "ftp://host/films/", "file:///films/", "https://host/a?b"])
def test_a_media_root_that_could_never_be_read_is_refused_at_once(root):
    with pytest.raises(InvalidParameter, match="EIOKU_MEDIA_ROOTS"):
        load({"EIOKU_MEDIA_ROOTS": root})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("EIOKU_PORT", "70000", "70000 is not between 0 and 65535"),
        ("EIOKU_PORT", "http", "Expected `int`"),
        ("EIOKU_API_PROCESSES", "0", "not between 1 and 64"),
        ("EIOKU_OFFLINE", "maybe", "Expected `bool`"),
        ("EIOKU_DEVICE", "tpu", "Invalid enum value 'tpu'; it takes auto or cpu or cuda"),
        ("EIOKU_VIDEOS_TOGETHER", "2.5", "it takes a whole number or auto"),
        ("EIOKU_VIDEOS_TOGETHER", "0", "0 is not between 1 and 16"),
        ("EIOKU_DATABASE_URL", "mysql://x", "must start with postgresql://"),
        ("EIOKU_NATS_URL", "localhost:4222", "must start with nats://"),
        ("EIOKU_DETECTOR_WEIGHTS", "/nowhere/yolo.pt", "/nowhere/yolo.pt does not exist"),
        ("EIOKU_WORKERS", "light,gpu", "'gpu' is none of auto, none, light"),
        ("EIOKU_WORKERS", "light,asr:0", "'asr:0': not between 1 and 64 processes"),
        ("EIOKU_WORKERS", "asr:two", "'asr:two': not between 1 and 64 processes"),
        ("EIOKU_DEPLOYMENT", "a b", "letters, digits"),
        ("EIOKU_CONFIG", "/nowhere.toml", "there is no /nowhere.toml"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable, value, says):
    with pytest.raises(InvalidParameter) as refused:
        load({variable: value})
    assert refused.value.parameter == variable
    assert says in refused.value.reason


def test_a_file_with_an_unknown_key_is_refused_with_the_nearest_name(tmp_path):
    file = tmp_path / "eioku.toml"
    file.write_text("media_root = []\n")
    with pytest.raises(InvalidParameter, match="did you mean media_roots"):
        load({"EIOKU_CONFIG": str(file)})


def test_passwords_are_never_shown():
    settings = load({"EIOKU_DATABASE_URL": "postgresql://u:hunter2@db/x", "EIOKU_NATS_URL": "nats://u:hunter2@n"})
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.shown())
    assert settings.database_url == "postgresql://u:hunter2@db/x"
    assert redacted("nats://127.0.0.1:4222") == "nats://127.0.0.1:4222"


def test_a_child_process_reads_the_same_settings():
    settings = load(
        {"EIOKU_MEDIA_ROOTS": "/a:s3://b/", "EIOKU_OFFLINE": "true", "EIOKU_PORT": "0", "EIOKU_THREADS": "7"}
    )
    assert load(settings.environment()) == settings


def test_workers_are_families_or_task_types():
    assert worker_families("none") == {}
    assert set(worker_families("auto")) == {"light", "asr", "ocr", "torch"}
    assert worker_families("light, transcription") == {"light": None, "asr": ("transcription",)}
    assert worker_families("metadata_extraction,scene_detection") == {
        "light": ("metadata_extraction", "scene_detection")
    }
    assert worker_families("light,scene_detection") == {"light": None}
    assert worker_families("light,transcription:2") == {"light": None, "asr": ("transcription",)}


def test_a_family_may_have_several_workers():
    assert worker_counts("light,asr:2,torch:1") == {"asr": 2}
    assert worker_counts("transcription:3") == {"asr": 3}
    assert worker_counts("auto") == worker_counts("none") == {}


def test_a_mistyped_variable_is_found():
    assert unknown_variables({"EIOKU_MEDIA_ROOT": "x", "EIOKU_DATA": "y", "PATH": "z", "EIOKU_UP_PORT": "1"}) == {
        "EIOKU_MEDIA_ROOT": "EIOKU_MEDIA_ROOTS"
    }


def test_every_setting_is_documented():
    manual = (ROOT / "docs" / "operations.md").read_text()
    missing = [name for name in Settings.__struct_fields__ if f"`EIOKU_{name.upper()}`" not in manual]
    assert missing == []
