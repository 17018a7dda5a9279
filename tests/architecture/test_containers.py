"""What can be checked of the containers without an engine."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from domain.pipeline import FAMILIES
from eioku.cli import cli
from eioku.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OVERLAY = yaml.safe_load((ROOT / "compose.cuda.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
KNOWN_KEYS = {
    "build", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "ports", "restart", "shm_size",
    "stop_grace_period", "volumes",
}  # fmt: skip


def test_services_say_only_what_compose_knows():
    for document in (COMPOSE, OVERLAY):
        for name, service in document["services"].items():
            assert set(service) <= KNOWN_KEYS, name
            for dependency in service.get("depends_on", {}):
                assert dependency in COMPOSE["services"]
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                assert source in COMPOSE["volumes"] or source.startswith((".", "$", "/")), (name, volume)
    named = {v.split(":")[0] for s in COMPOSE["services"].values() for v in s.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= named


def test_the_overlay_changes_services_that_exist():
    assert set(OVERLAY["services"]) <= set(COMPOSE["services"])


@pytest.mark.parametrize("name", OURS)
def test_every_service_runs_a_command_with_flags_that_exist(name):
    word, *flags = OURS[name]["command"]
    command = cli.commands[word]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {flag for flag in flags if flag.startswith("--")} <= known


def test_every_role_has_a_service():
    commands = [service["command"] for service in OURS.values()]
    assert {command[0] for command in commands} == {"migrate", "api", "relay", "ingester", "projector", "worker"}
    families = {command[2] for command in commands if command[0] == "worker"}
    assert families <= set(FAMILIES)


def test_every_variable_is_a_setting():
    known = {f"EIOKU_{field.upper()}" for field in Settings.__struct_fields__}
    used = {key for service in (*OURS.values(), *OVERLAY["services"].values()) for key in service.get("environment", {})}
    used |= set(re.findall(r"^ +(EIOKU_\w+)=", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert used <= known


def test_images_are_installed_by_the_makefile_from_a_lock_that_exists():
    lines = (ROOT / "Dockerfile").read_text()
    steps = re.findall(r"^RUN (make .*)$", lines, re.MULTILINE)
    assert [step.split()[-1] for step in steps] == [".venv/.locked", "install"]
    assert all('LOCK="$LOCK"' in step for step in steps)
    assert "pip install" not in lines
    makefile = (ROOT / "Makefile").read_text()
    assert "LOCKED := $(VENV)/.locked" in makefile
    assert "\ninstall: $(READY)" in makefile
    for service in (*OURS.values(), *OVERLAY["services"].values()):
        if "build" in service:
            assert all((ROOT / lock).is_file() for lock in service["build"]["args"]["LOCK"].split())
            assert (ROOT / service["build"].get("context", ".") / "Dockerfile").is_file()


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if re.match(r"[a-z0-9.-]+==", line))


@pytest.mark.parametrize("name", ["core", "light", "asr", "ocr", "torch"])
def test_a_part_of_the_lock_pins_what_the_whole_pins(name):
    whole, part = pins("all"), pins(name)
    assert part.items() <= whole.items()


def test_images_have_what_their_role_needs_and_not_the_rest():
    heavy = {"torch", "ultralytics", "faster-whisper", "ctranslate2", "scenedetect", "paddlepaddle"}
    assert pins("core").keys() & heavy == set()
    assert pins("light").keys() & heavy == {"scenedetect"}
    assert pins("asr").keys() & heavy == {"faster-whisper", "ctranslate2"}
    assert pins("ocr").keys() & heavy == {"paddlepaddle"}
    assert pins("torch").keys() & heavy == {"torch", "ultralytics"}
    assert all("opencv-contrib-python" in pins(name) for name in ("light", "torch"))


def test_nats_syncs_always_and_postgres_has_vectors():
    assert "sync_interval: always" in (ROOT / "deploy" / "nats.conf").read_text()
    assert COMPOSE["services"]["postgres"]["image"].startswith("pgvector/")


def test_the_lock_holds_every_dependency_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[\[<>=~ ;]", one)[0].lower() for one in wanted}
    assert names <= pins("all").keys()
