#!/usr/bin/env python3
"""Follow everything that happens in Eioku, from the beginning and then live. Needs nothing but nats-py.

    python examples/subscriber.py nats://127.0.0.1:4222 --state seen.json

One line an event: its id, type, video and time; with --json the whole CloudEvent. Stop it and start it again: with
--state it goes on where it was. Restart the server meanwhile: it goes on. Nothing is missed, nothing shown twice. (Killed
between printing and noting it, it prints that one event again; whoever must not see it twice keeps the position in the
same transaction as what it makes of the event.)

How it works: EIOKU_EVT keeps 14 days of events. Every event carries its place in Eioku's log ("position"), which only
grows. An ordered consumer of our own delivers the stream from a given message on; we check that no message is missing
(the consumer's numbers have no gaps), and make the consumer again at the next message whenever something is wrong.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

STREAM = "EIOKU_EVT"
BATCH = 100
SILENCE_S = 5.0
"""How long a request waits at the server."""


class State:
    """How far we are: the last message of the stream, and the last position of the log."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.sequence = self.position = 0
        if path is not None and path.exists():
            saved = json.loads(path.read_text())
            self.sequence, self.position = saved["sequence"], saved["position"]

    def note(self, sequence: int, position: int) -> None:
        self.sequence, self.position = sequence, position
        if self.path is not None:
            fresh = self.path.with_suffix(".new")
            with fresh.open("w") as file:
                json.dump({"sequence": sequence, "position": position}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)  # all or nothing


class Subscriber:
    """Reads the stream in order and shows each event once."""

    def __init__(self, client: Client, state: State, arguments: argparse.Namespace) -> None:
        self.client, self.state, self.arguments = client, state, arguments
        self.js = client.jetstream(timeout=5)
        self.shown = 0

    async def follow(self) -> None:
        """Until enough was shown; each round is one consumer's life."""
        while not self.is_done:
            try:
                await self.read()
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if self.client.is_closed:
                    raise
                print(f"again in a second: {error!r}", file=sys.stderr)
                await asyncio.sleep(1)

    @property
    def is_done(self) -> bool:
        return self.arguments.count is not None and self.shown >= self.arguments.count

    async def read(self) -> None:
        """Make a consumer after the last message that we have seen and read it until something is wrong."""
        info = await self.js.stream_info(STREAM)
        if info.state.last_seq < self.state.sequence:
            # The stream was made anew and Eioku fills it again: from its start, passing over positions that we know.
            self.state.sequence = 0
        consumer = await self.js.add_consumer(
            STREAM,
            api.ConsumerConfig(
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self.state.sequence + 1,
                ack_policy=api.AckPolicy.NONE,
                filter_subject=f"eioku.{self.arguments.tenant}.event.{self.arguments.topic}",
                inactive_threshold=60,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        request = json.dumps({"batch": BATCH, "expires": int(SILENCE_S * 1e9)}).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer.name}"
        delivered = 0
        try:
            while not self.is_done:
                await self.client.publish(subject, request, reply=inbox)
                for _ in range(BATCH):
                    message = await subscription.next_msg(timeout=SILENCE_S + 1)
                    if not message.reply:  # no message but a status: "request timeout", or the consumer is gone
                        if message.headers and message.headers.get("Status") != "408":
                            return
                        break
                    if message.metadata.sequence.consumer != delivered + 1:
                        return  # one is missing: read it with a new consumer
                    delivered += 1
                    self.take(message)
                    if self.is_done:
                        return
        except nats.errors.TimeoutError:
            return  # not even a status: the server was away, and its consumer may be
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
            with contextlib.suppress(nats.errors.Error, NotFoundError, TimeoutError):
                if self.client.is_connected:
                    await self.js.delete_consumer(STREAM, consumer.name)

    def take(self, message: Msg) -> None:
        """Show the event, unless we have seen it, and note that we have."""
        sequence = message.metadata.sequence.stream
        event: dict[str, Any] = json.loads(message.data)
        position = int(event["position"])
        if position > self.state.position:
            self.show(event)
            self.shown += 1
        self.state.note(sequence, max(position, self.state.position))

    def show(self, event: dict[str, Any]) -> None:
        if self.arguments.json:
            print(json.dumps(event), flush=True)
        else:
            print(event["id"], event["type"], event.get("subject", "-"), event["time"], flush=True)


async def main(arguments: argparse.Namespace) -> None:
    async def on_error(error: Exception) -> None:
        print(f"nats: {error!r}", file=sys.stderr)

    client = await nats.connect(
        arguments.url,
        name="eioku-subscriber",
        user_credentials=arguments.credentials,
        max_reconnect_attempts=-1,  # the default gives up for good after two minutes
        reconnect_time_wait=0.3,
        ping_interval=10,
        error_cb=on_error,
    )
    work = asyncio.create_task(Subscriber(client, State(arguments.state), arguments).follow())
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        pass
    finally:
        with contextlib.suppress(OSError):
            await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Follow everything that happens in Eioku.")
    parser.add_argument("url", nargs="?", default="nats://127.0.0.1:4222")
    parser.add_argument("--state", type=Path, help="file that remembers how far we are")
    parser.add_argument("--tenant", default="*", help="only this tenant")
    parser.add_argument("--topic", default=">", help='only these events, e.g. "video.registered" or "task.*"')
    parser.add_argument("--json", action="store_true", help="whole events")
    parser.add_argument("--count", type=int, help="end after so many events")
    parser.add_argument("--credentials", help="NATS credentials file")
    asyncio.run(main(parser.parse_args()))
