"""Each thing is added in one place and listed once; what is listed is documented and published."""

import importlib
import pkgutil
from pathlib import Path

import click
import msgspec
import pytest

import domain
import domain.artifacts
import projectors
import workers
from api.problems import PROBLEMS
from application.handle import STREAMS
from domain.artifacts import ARTIFACT_TYPES, UPCASTERS
from domain.artifacts.envelope import Payload
from domain.errors import EiokuError
from domain.event import Command, DomainEvent
from domain.pipeline import TASK_TYPES
from domain.run import ArtifactProduced
from eioku.cli import cli
from projectors.projection import Projection
from workers.producer import Producer

ROOT = Path(__file__).resolve().parents[2]


def everything_in(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)


def leaves_of(kind):
    """Subclasses that have none themselves, of our own packages."""
    found, waiting = set(), [kind]
    while waiting:
        one = waiting.pop()
        below = [sub for sub in one.__subclasses__() if not sub.__module__.startswith("test")]
        waiting += below
        if not below and one is not kind:
            found.add(one)
    return found


everything_in(domain)
everything_in(domain.artifacts)
everything_in(projectors)
everything_in(workers)


def test_every_payload_is_registered_with_a_valid_example():
    assert leaves_of(Payload) == set(ARTIFACT_TYPES)
    assert len({(payload.NAME, payload.VERSION) for payload in ARTIFACT_TYPES}) == len(ARTIFACT_TYPES)
    for payload in ARTIFACT_TYPES:
        example = payload.example()
        assert example.flaw() is None
        assert msgspec.json.decode(msgspec.json.encode(example), type=payload) == example


def test_every_older_payload_version_has_an_upcaster():
    versions = {(payload.NAME, payload.VERSION) for payload in ARTIFACT_TYPES}
    for name, version in versions:
        if version > 1:
            assert (name, version - 1) in UPCASTERS


def test_every_event_is_registered_under_a_topic_of_its_own():
    listed = [event for stream in STREAMS.values() for event in stream.EVENTS] + [ArtifactProduced]
    assert leaves_of(DomainEvent) - set(STREAMS) == set(listed)
    topics = [event.TOPIC for event in listed]
    assert len(set(topics)) == len(topics)
    assert all(topic.count(".") == 1 and topic == topic.lower() for topic in topics)


def test_every_command_is_decided_on_by_the_module_it_is_in():
    modules = {module.__name__ for module in STREAMS.values()}
    assert {command.__module__ for command in leaves_of(Command)} == modules


def test_every_projection_is_listed_and_says_what_it_is():
    abstract = {kind for kind in leaves_of(Projection) if getattr(kind, "__abstractmethods__", None)}
    assert leaves_of(Projection) - abstract == set(projectors.PROJECTIONS)
    names = [projection.name for projection in projectors.PROJECTIONS]
    assert len(set(names)) == len(names)
    known = {event.TOPIC for stream in STREAMS.values() for event in stream.EVENTS}
    types = {payload.NAME for payload in ARTIFACT_TYPES}
    for projection in projectors.PROJECTIONS:
        assert projection.topics <= known
        assert projection.kinds <= types


def test_every_producer_is_listed_for_a_task_type_that_exists():
    assert leaves_of(Producer) == set(workers.PRODUCERS)
    task_types = [producer.task_type for producer in workers.PRODUCERS]
    assert len(set(task_types)) == len(task_types)
    assert set(task_types) <= {kind.name for kind in TASK_TYPES}
    assert {produced for kind in TASK_TYPES for produced in kind.produces} <= {p.NAME for p in ARTIFACT_TYPES}


def test_every_error_has_a_status():
    def status_of(error):
        return next((PROBLEMS[base] for base in error.__mro__ if base in PROBLEMS), None)

    ours = {error for error in leaves_of(EiokuError) if error.__module__ == "domain.errors"}
    assert [error.__name__ for error in ours if status_of(error) is None] == []


def test_the_tree_of_errors_is_drawn_as_it_is():
    drawn = Path(domain.__path__[0], "errors.py").read_text().split('"""')[1]
    ours = {error.__name__ for error in leaves_of(EiokuError) if error.__module__ == "domain.errors"}
    assert [name for name in sorted(ours) if name not in drawn] == []


def commands():
    """(path, command) of every command a user may type."""
    waiting = [((name,), command) for name, command in cli.commands.items()]
    while waiting:
        path, command = waiting.pop()
        yield path, command
        if isinstance(command, click.Group):
            waiting += [((*path, name), sub) for name, sub in command.commands.items()]


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_is_documented(path):
    manual = (ROOT / "docs" / "operations.md").read_text()
    assert f"`eioku {path[0]}`" in manual
    assert all(f"`{word}" in manual or f"`eioku {' '.join(path)}" in manual for word in path[1:])


def test_every_flag_has_a_help_text_and_a_variable():
    for path, command in commands():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help or option.is_flag, (path, option.name)
                own = "EIOKU_" + "_".join((*path, option.name)).upper().replace("-", "_")
                assert option.envvar is None or option.envvar.startswith("EIOKU_"), own
    assert cli.context_settings["auto_envvar_prefix"] == "EIOKU"


def test_every_word_of_the_glossary_is_in_order():
    rows = [line.split("|")[1].strip() for line in (ROOT / "docs/glossary.md").read_text().splitlines() if line[:2] == "| "]
    words = [row for row in rows if row not in ("word", "---")]
    assert words == sorted(words)
