"""What is done with new videos: task types and how each is done, by collection or filename; what a pipeline file says."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NoReturn

import msgspec

from domain.artifacts.fields import Language
from domain.errors import InvalidParameter
from domain.pipeline import BY_NAME, DEFAULT_PIPELINE, full_config
from domain.words import composed, fold

Place = tuple[str | int, ...]
"""Keys and places in arrays that lead to a value of the file."""


class PlanError(ValueError):
    """A value of the pipeline file that cannot be; whoever reads the file knows its name and lines."""

    def __init__(self, place: Place, reason: str) -> None:
        self.place = place
        super().__init__(reason)


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tasks of one type are done."""

    profile: str | None = None
    language: str | None = None
    config: dict[str, Any] = {}
    """Laid over the profile's."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with one video."""

    run: tuple[str, ...] = DEFAULT_PIPELINE
    steps: Mapping[str, Step] = {}

    def step(self, task_type: str) -> Step:
        """How that is done; as usual where nothing is said."""
        return self.steps.get(task_type, Step())


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with some videos instead."""

    collection: str | None
    filename: str | None
    """A pattern with * and ?, in any case."""
    plan: Plan

    def fits(self, filename: str, collection: str | None) -> bool:
        """Whether the video is one of them."""
        if self.collection is not None and composed(self.collection) != composed(collection or ""):
            return False
        return self.filename is None or fnmatchcase(fold(filename), fold(self.filename))


class Plans(msgspec.Struct, frozen=True, kw_only=True):
    """The usual plan, and the rules that go before it: the first that fits counts."""

    usual: Plan = Plan()
    rules: tuple[Rule, ...] = ()

    def of(self, filename: str, collection: str | None, pipeline: Sequence[str] | None) -> Plan:
        """The plan of one video; the task types that its registration named go before the file's."""
        found = next((rule.plan for rule in self.rules if rule.fits(filename, collection)), self.usual)
        return found if pipeline is None else msgspec.structs.replace(found, run=tuple(pipeline))


def plans_of(values: Mapping[str, Any]) -> Plans:
    """The plans that a pipeline file describes, decoded.

    Raises:
        PlanError: says where and what to do.
    """
    _known(values, ("run", "task", "for"), ())
    usual = _plan(values, Plan(), ())
    rules = values.get("for", [])
    if not isinstance(rules, list):
        raise PlanError(("for",), "is written [[for]], once for each rule")
    return Plans(usual=usual, rules=tuple(_rule(rule, usual, ("for", n)) for n, rule in enumerate(rules)))


def _rule(values: Any, usual: Plan, place: Place) -> Rule:
    if not isinstance(values, dict):
        raise PlanError(place, "is written [[for]], once for each rule")
    _known(values, ("collection", "filename", "run", "task"), place)
    for name in ("collection", "filename"):
        if name in values and (not isinstance(values[name], str) or not values[name]):
            raise PlanError((*place, name), "is a text that is not empty")
    if not {"collection", "filename"} & set(values):
        raise PlanError(place, 'names a collection, a filename such as "*.mts", or both')
    return Rule(
        collection=values.get("collection"), filename=values.get("filename"), plan=_plan(values, usual, place)
    )


def _plan(values: Mapping[str, Any], base: Plan, place: Place) -> Plan:
    run = values.get("run", base.run)
    if not isinstance(run, list | tuple):
        raise PlanError((*place, "run"), 'is a list of task types such as ["transcription", "ocr"]')
    for name in run:
        _task_type(name, (*place, "run"))
    steps = values.get("task", {})
    if not isinstance(steps, dict):
        raise PlanError((*place, "task"), "is a table for each task type: [task.ocr]")
    own = {name: _step(name, step, base.step(name), (*place, "task", name)) for name, step in steps.items()}
    return Plan(run=tuple(dict.fromkeys(run)), steps=dict(base.steps) | own)


def _step(task_type: str, values: Any, base: Step, place: Place) -> Step:
    _task_type(task_type, place)
    if not isinstance(values, dict):
        raise PlanError(place, "is a table with profile, language and config")
    _known(values, Step.__struct_fields__, place)
    try:
        step = msgspec.convert(msgspec.structs.asdict(base) | values, Step)
        if step.language is not None:
            msgspec.convert(step.language, Language)
    except msgspec.ValidationError as error:
        key = next((name for name in values if f"$.{name}" in str(error)), "language")
        raise PlanError((*place, key), f"{values[key]!r} cannot be: {error}") from error
    try:
        full_config(task_type, step.profile, step.config)
    except InvalidParameter as error:
        raise PlanError((*place, *error.parameter.split(".")), error.reason) from error
    return step


def _task_type(name: Any, place: Place) -> None:
    if name not in BY_NAME:
        _refuse(name, tuple(BY_NAME), place, "is no task type")


def _known(values: Mapping[str, Any], names: tuple[str, ...], place: Place) -> None:
    for name in values:
        if name not in names:
            _refuse(name, names, (*place, name), "is not known here")


def _refuse(name: Any, known: tuple[str, ...], place: Place, why: str) -> NoReturn:
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    raise PlanError(place, f"{name!r} {why}; {hint}")
