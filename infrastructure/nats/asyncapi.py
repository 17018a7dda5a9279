"""The contract for other systems, AsyncAPI 3.0, generated from the structs that are sent."""

from typing import Any

import msgspec

from application.handle import STREAMS
from domain.event import DomainEvent
from domain.run import ArtifactProduced
from infrastructure.nats.cloudevents import CONTENT_TYPE, ArtifactsProduced, CloudEvent, schema_of, type_of
from infrastructure.nats.streams import DAY_S, EVT
from infrastructure.nats.streams import STREAMS as BROKER_STREAMS

VERSION = "1.0.0"


def published() -> dict[type[DomainEvent], type[msgspec.Struct]]:
    """Event → struct of the `data` of its messages."""
    events: dict[type[DomainEvent], type[msgspec.Struct]] = {
        event: event for stream in STREAMS.values() for event in stream.EVENTS
    }
    return events | {ArtifactProduced: ArtifactsProduced}


def document() -> dict[str, Any]:
    """The whole document: plain dicts, lists and strings, in a stable order."""
    events = published()
    schemas, components = msgspec.json.schema_components(
        [CloudEvent, *events.values()], ref_template="#/components/schemas/{name}"
    )
    envelope, *bodies = schemas
    messages = {
        _name(event): _message(event, envelope, body) for event, body in zip(events, bodies, strict=True)
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Eioku events",
            "version": VERSION,
            "description": (
                "Every event of the log as CloudEvents 1.0 structured JSON on NATS JetStream. Order is the log's. "
                "Drop what you see again by `id`; positions have gaps where a filter leaves something out. Within a "
                "type's version fields are only added. What is older than the stream keeps is in the log."
            ),
            "license": {"name": "AGPL-3.0-or-later"},
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "bus": {"host": "{host}", "protocol": "nats", "variables": {"host": {"default": "127.0.0.1:4222"}}}
        },
        "channels": {_name(event): _channel(event) for event in events},
        "operations": {
            f"publish{_name(event)[0].upper()}{_name(event)[1:]}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{_name(event)}"},
            }
            for event in events
        },
        "components": {"messages": messages, "schemas": {name: components[name] for name in sorted(components)}},
    }


def _name(event: type[DomainEvent]) -> str:
    first, *rest = event.TOPIC.replace(".", "_").split("_")
    return first + "".join(word.capitalize() for word in rest)


def _channel(event: type[DomainEvent]) -> dict[str, Any]:
    stream = next(each for each in BROKER_STREAMS if each.name == EVT)
    return {
        "address": f"eioku.{{tenant}}.event.{event.TOPIC}",
        "parameters": {"tenant": {"description": "Tenant; characters that a subject may not hold are percent-encoded"}},
        "messages": {_name(event): {"$ref": f"#/components/messages/{_name(event)}"}},
        "x-jetstream": {
            "stream": EVT,
            "retention": "limits",
            "maxAge": f"{int((stream.max_age or 0) // DAY_S)}d",
            "ack": "explicit",
            "consumer": "a durable of your own, or an ordered consumer; see examples/subscriber.py",
            "messageId": "the event's id",
        },
    }


def _message(event: type[DomainEvent], envelope: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": type_of(event),
        "title": " ".join((event.__doc__ or "").split("\n\n")[0].split()),
        "contentType": CONTENT_TYPE,
        "headers": {
            "type": "object",
            "required": ["Nats-Msg-Id", "Content-Type", "eioku-position"],
            "properties": {
                "Nats-Msg-Id": {"type": "string", "description": "The event's id"},
                "Content-Type": {"const": CONTENT_TYPE},
                "eioku-position": {"type": "string", "description": "Place in the log of the last event in here"},
            },
        },
        "payload": {
            "allOf": [
                envelope,
                {
                    "properties": {
                        "type": {"const": type_of(event)},
                        "dataschema": {"const": schema_of(event)},
                        "data": {"anyOf": [body, {"type": "null"}]},
                    }
                },
            ]
        },
    }
