"""The pipeline file: what it says is done, what it cannot say is refused by line and key."""

import tomllib
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from click.testing import CliRunner

from application.policies import react
from application.request_task import request_task
from domain import task
from domain.errors import InvalidParameter, TaskActive
from domain.pipeline import BY_NAME, DEFAULT_PIPELINE
from domain.plan import Plan, Plans, Step, plans_of
from eioku.cli import cli
from eioku.pipeline_file import default_text, load_plans, read
from eioku.settings import load
from tests.support.given import AT, META
from tests.support.memory_videos import MemoryVideos
from tests.support.results import VIDEO, given_video
from tests.unit.test_policies import World

FILE = """
run = ["transcription", "ocr"]

[task.ocr]
profile = "fast"
config = { every_ms = 9000 }
[task.transcription]
language = "de"

[[for]]
collection = "lectures"
filename = "*.MTS"
run = ["transcription"]
[for.task.transcription]
profile = "high_quality"

[[for]]
filename = "clip-?.mp4"
run = []
"""


def planned(log) -> dict[str, tuple[str, str | None, object]]:
    return {
        record.item.task_type: (record.item.profile, record.item.language, record.item.config.get("every_ms"))
        for record in log.records
        if isinstance(record.item, task.TaskRequested)
    }


class Planned(World):
    plans = plans_of(tomllib.loads(FILE))

    def settle(self) -> "World":
        while records := self.log.read(self.done, limit=1):
            for record in records * 2:
                react(
                    self.log, record, clock=lambda: AT, tasks=self.tasks, videos=MemoryVideos(self.log), plans=self.plans
                )
            self.done = records[-1].position
        return self


def test_new_videos_get_what_the_file_says_as_it_says():
    world = Planned()
    given_video(world.log)
    world.probed()
    assert planned(world.log) == {
        "metadata_extraction": ("balanced", None, None),
        "transcription": ("balanced", "de", None),
        "ocr": ("fast", None, 9000),
    }


def test_a_registration_names_its_own_task_types_and_the_file_says_how():
    world = Planned()
    given_video(world.log, pipeline=("ocr", "scene_detection"))
    world.probed()
    assert set(planned(world.log)) == {"metadata_extraction", "ocr", "scene_detection"}
    assert planned(world.log)["ocr"] == ("fast", None, 9000)


@pytest.mark.parametrize(
    ("filename", "collection", "run", "how"),
    [
        ("a.mp4", None, ("transcription", "ocr"), Step(language="de")),
        ("A.mts", "lectures", ("transcription",), Step(profile="high_quality", language="de")),
        ("A.mts", None, ("transcription", "ocr"), Step(language="de")),
        ("Clip-7.MP4", "lectures", (), Step(language="de")),
    ],
)
def test_the_first_rule_that_fits_counts(filename, collection, run, how):
    plan = Planned.plans.of(filename, collection, None)
    assert (plan.run, plan.step("transcription")) == (run, how)


def test_dependants_wait_for_what_was_asked_for_under_an_older_file():
    world = Planned()
    given_video(world.log, pipeline=("ocr", "embedding"))
    world.probed()
    world.plans = Plans()
    (ocr,) = [r.item.originator_id for r in world.log.records if getattr(r.item, "task_type", "") == "ocr"]
    assert "embedding" not in planned(world.log)
    world.order(task.CancelTask, ocr)
    assert "embedding" in planned(world.log)


def test_the_pipelines_open_task_is_the_same_only_when_it_is():
    world = Planned()
    given_video(world.log)
    world.probed()
    other = msgspec.structs.replace(META, correlation_id=UUID(int=9))
    with pytest.raises(TaskActive):
        request_task(world.log, other, VIDEO, "ocr", profile="fast", config={"every_ms": 9000})
    request_task(world.log, other, VIDEO, "ocr")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('run = ["ocr", "orc"]', "line 1, run: 'orc' is no task type; did you mean ocr?"),
        ('\nruns = ["ocr"]', "line 2, runs: 'runs' is not known here; did you mean run?"),
        ('run = "ocr"', "line 1, run: is a list of task types"),
        ('[task.orc]\nprofile = "fast"', "line 1, task.orc: 'orc' is no task type"),
        ('[task.ocr]\n\nprofile = "best"', "line 3, task.ocr.profile: 'best' is none of fast"),
        ("[task.ocr]\nprofile = 3", "line 2, task.ocr.profile: 3 cannot be: Expected `str"),
        ('[task]\nocr.language = "?"', "line 2, task.ocr.language: '?' cannot be"),
        ('task = "ocr"', "line 1, task: is a table"),
        ('[[for]]\ncollection = "a"\n[[for]]\nrun = []', "line 3, for.1: names a collection, a filename"),
        ('[[for]]\nfilename = ""', "line 2, for.0.filename: is a text that is not empty"),
        ('[for]\nfilename = "a"', "for: is written [[for]]"),
        (
            '[[for]]\ncollection = "a"\n[for.task.ocr]\nprofil = "fast"',
            "line 4, for.0.task.ocr.profil: 'profil' is not known here; did you mean profile?",
        ),
        (f'[task.ocr]\nconfig = {{ a = "{"x" * 2_000}" }}', "line 2, task.ocr.config: has more than 2000 bytes"),
        ('[task.ocr.config]\nevery_ms = "soon"', "line 2, task.ocr.config.every_ms: 'soon' cannot be; balanced has 2000"),
        ("run = [", "end of document"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_key_and_remedy(tmp_path, text, says):
    file = tmp_path / "pipeline.toml"
    file.write_text(text)
    with pytest.raises(InvalidParameter) as refused:
        load_plans(load({"EIOKU_DATA": str(tmp_path)}))
    assert refused.value.parameter == "EIOKU_PIPELINE_FILE"
    assert str(file) in refused.value.reason
    assert says in refused.value.reason


def test_a_file_that_is_named_must_be_there_and_the_usual_one_need_not(tmp_path):
    assert load_plans(load({"EIOKU_DATA": str(tmp_path)})) == Plans(usual=Plan())
    with pytest.raises(InvalidParameter, match=r"there is no .*init"):
        load_plans(load({"EIOKU_DATA": str(tmp_path), "EIOKU_PIPELINE_FILE": "/nowhere.toml"}))


def test_the_written_file_changes_nothing_and_each_of_its_comments_may_be_taken_away(tmp_path):
    def invoke(*arguments: str):
        return CliRunner().invoke(cli, [*arguments, "--data", str(tmp_path)], catch_exceptions=True)

    assert invoke("pipeline", "init").exit_code == 0
    file = tmp_path / "pipeline.toml"
    assert read(file) == Plans()
    assert isinstance(invoke("pipeline", "init").exception, InvalidParameter)
    assert f"{len(DEFAULT_PIPELINE)} task types, 0 rules" in invoke("pipeline", "check").output
    assert "the usual plan" not in invoke("pipeline", "show").output
    loud = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [", "# profile =", "# config =", "# run =", "# coll", "# file", "# lang")) else line
        for line in default_text().splitlines()
    )
    file.write_text(loud)
    plans = read(file)
    assert set(plans.usual.steps) == set(BY_NAME)
    assert [rule.collection for rule in plans.rules] == ["lectures"]
    assert "high_quality" in invoke("pipeline", "show").output
    assert Path(file).exists()
