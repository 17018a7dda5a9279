"""Integration events are CloudEvents, of limited size, and what the published contract says."""

import json
from uuid import UUID

import jsonschema
import msgspec
import pytest
from cloudevents.core.formats.json import JSONFormat

from application.ports import Recorded
from domain.artifacts.object_detection import ObjectDetectionV1
from domain.run import RunCompleted
from domain.selection import SelectionSet
from domain.task import TaskRequested
from domain.video import VideoRegistered
from infrastructure.nats import asyncapi, subjects
from infrastructure.nats.cloudevents import MAX_EVENT_BYTES, outgoing
from tests.support.given import AT, META, head
from tests.support.results import VIDEO, Attempt

SOURCE = "/eioku/test"
REGISTERED = VideoRegistered(**head(1, stream=VIDEO), source="/m/a.mp4", filename="a.mp4", file_created_at=AT)
REQUESTED = TaskRequested(
    **head(1), video_id=VIDEO, task_type="ocr", profile="fast", config={"a": {"b": [1]}}, config_hash="h", language="de"
)
COMPLETED = RunCompleted(
    **head(2), task_id=UUID(int=3), video_id=VIDEO, counts={"scene": 2}, metrics={"seconds": 1.5}, language=None
)
SELECTED = SelectionSet(**head(1), video_id=None, artifact_type="scene", mode="latest")


def messages(item, position, video_id=VIDEO):
    return list(outgoing(Recorded(position=position, item=item), source=SOURCE, video_id=video_id))


def batch(count, payload=None, task=1):
    return Attempt(UUID(int=task)).produced(count, payload).batch


def validator(name):
    """The contract's schema for the messages of one channel."""
    document = asyncapi.document()
    payload = document["components"]["messages"][name]["payload"]
    return jsonschema.Draft202012Validator({**payload, "components": document["components"]})


@pytest.mark.parametrize(
    ("item", "channel"),
    [
        (REGISTERED, "videoRegistered"),
        (REQUESTED, "taskRequested"),
        (COMPLETED, "runCompleted"),
        (SELECTED, "selectionSet"),
        (batch(30), "artifactProduced"),
    ],
)
def test_a_message_is_a_cloud_event_as_the_contract_describes_it(item, channel):
    (message,) = messages(item, 1000)
    event = JSONFormat().read(None, message.body)
    assert event.get_specversion() == "1.0"
    assert event.get_source() == SOURCE
    assert event.get_time() == (item.head.created_at if channel == "artifactProduced" else AT)
    assert event.get_extension("tenant") == "default"
    assert event.get_extension("correlationid") == str(META.correlation_id)
    assert event.get_id() == message.id
    validator(channel).validate(json.loads(message.body))


def test_the_contract_refuses_what_is_not_so():
    (message,) = messages(REGISTERED, 7)
    event = json.loads(message.body)
    for change in ({"id": None}, {"type": "eioku.video.deleted.v1"}, {"data": {"source": 3}}, {"specversion": "0.3"}):
        with pytest.raises(jsonschema.ValidationError):
            validator("videoRegistered").validate(event | change)


def test_an_event_keeps_its_place_its_names_and_its_values():
    (message,) = messages(REQUESTED, 77)
    event = json.loads(message.body)
    assert (message.id, message.position, message.subject) == ("g77", 77, "eioku.default.event.task.requested")
    assert (event["type"], event["subject"], event["position"]) == ("eioku.task.requested.v1", str(VIDEO), "77")
    assert event["dataschema"] == "urn:eioku:event:task.requested:1"
    assert msgspec.convert(event["data"], TaskRequested) == REQUESTED
    assert message.headers["Nats-Msg-Id"] == "g77"


def test_where_there_is_no_video_there_is_no_subject():
    (message,) = messages(SELECTED, 5, video_id=None)
    assert "subject" not in json.loads(message.body)


def test_a_batch_is_one_message_with_its_envelope_and_the_range_of_its_positions():
    packed = batch(30)
    (message,) = messages(packed, 129)
    event = json.loads(message.body)
    assert (message.id, event["firstposition"], event["position"]) == ("g100-129", "100", "129")
    assert event["data"]["envelope"]["artifact_type"] == "object.detection"
    assert event["data"]["first_version"] == 1
    assert event["data"]["artifacts"] == msgspec.json.decode(packed.items)


def test_one_artifact_has_the_id_of_one_event():
    (message,) = messages(batch(1), 9)
    assert message.id == "g9"
    assert "firstposition" not in json.loads(message.body)


def test_a_large_batch_is_split_into_messages_that_cover_it_without_overlap():
    payload = ObjectDetectionV1(label="x" * 3_000, confidence=0.5, box=(0, 0, 1, 1), frame_index=0)
    packed = batch(700, payload)
    parts = messages(packed, 1000)
    assert len(parts) > 3
    assert all(len(part.body) <= MAX_EVENT_BYTES for part in parts)
    events = [json.loads(part.body) for part in parts]
    artifacts = [artifact for event in events for artifact in event["data"]["artifacts"]]
    assert artifacts == msgspec.json.decode(packed.items)
    covered = [n for event in events for n in range(int(event["firstposition"]), int(event["position"]) + 1)]
    assert covered == list(range(301, 1001))
    versions = [event["data"]["first_version"] for event in events]
    assert versions == [int(event["firstposition"]) - 300 for event in events]
    assert len({part.id for part in parts}) == len(parts)
    assert [part.body for part in messages(packed, 1000)] == [part.body for part in parts], "cut the same way each time"


def test_what_is_too_large_for_any_message_goes_without_its_data():
    huge = msgspec.structs.replace(REQUESTED, config={"words": "x" * 700_000})
    (message,) = messages(huge, 8)
    event = json.loads(message.body)
    assert (event["data"], event["dataomitted"]) == (None, "true")
    validator("taskRequested").validate(event)
    payload = ObjectDetectionV1(label="x" * 600_000, confidence=0.5, box=(0, 0, 1, 1), frame_index=0)
    parts = [json.loads(part.body) for part in messages(batch(3, payload), 30)]
    assert [part["id"] for part in parts] == ["g28", "g29", "g30"]
    assert {part["dataomitted"] for part in parts} == {"true"}


def test_every_event_of_the_log_has_a_channel_and_every_reference_leads_somewhere():
    document = asyncapi.document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {f"eioku.{{tenant}}.event.{event.TOPIC}" for event in asyncapi.published()} == addresses
    assert "eioku.{tenant}.event.artifact.produced" in addresses

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                target = document
                for step in node["$ref"].removeprefix("#/").split("/"):
                    target = target[step]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


@pytest.mark.parametrize("tenant", ["default", "a.b", "a b", "*", ">", "ü", "", "~"])
def test_any_tenant_name_is_one_token(tenant):
    parts = subjects.event(tenant, "video.deleted").split(".")
    assert len(parts) == 5
    assert parts[1]
    assert not set(parts[1]) & set("*> ~")
    assert subjects.token("a.b") != subjects.token("a_b")
