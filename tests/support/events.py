"""What other systems see: the messages of EIOKU_EVT."""

import json
from typing import Any

from infrastructure.nats.connection import Bus
from infrastructure.nats.streams import EVT


async def on_bus(bus: Bus) -> list[dict[str, Any]]:
    """All events that the stream holds, ours only, in order."""
    state = (await bus.js.stream_info(EVT)).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await bus.js.get_msg(EVT, seq=sequence)
        event = json.loads(message.data or b"{}")
        if "id" in event:
            assert message.headers is not None
            assert message.headers["Nats-Msg-Id"] == event["id"]
            assert message.headers["Content-Type"] == "application/cloudevents+json"
            assert message.headers["eioku-position"] == event["position"]
            found.append(event)
    return found


def positions(events: list[dict[str, Any]]) -> list[int]:
    """The positions that the events cover, in their order."""
    covered: list[int] = []
    for event in events:
        covered += range(int(event.get("firstposition", event["position"])), int(event["position"]) + 1)
    return covered
