"""Whether a nats-server of our own is well. Asked over its own protocol, with a password: its web page has none."""

import asyncio
import json

from nats.aio.client import Client
from nats.errors import Error

ASK = "$SYS.REQ.SERVER.PING.HEALTHZ"
TIMEOUT_S = 5


def health(url: str) -> str:
    """What the server says is wrong with it, empty when nothing is; `url` names a user of the system account.

    It looks at every stream: the shorter form of the question says that all is well while one cannot be recovered.
    """
    try:
        return asyncio.run(asyncio.wait_for(_asked(url), 2 * TIMEOUT_S))
    except (Error, OSError, ValueError, TimeoutError) as error:
        return str(error) or type(error).__name__


async def _asked(url: str) -> str:
    async def silent(_: Exception) -> None:
        """What fails is raised as well."""

    connection = Client()
    try:
        await connection.connect(url, error_cb=silent, connect_timeout=TIMEOUT_S, allow_reconnect=False)
        told = json.loads((await connection.request(ASK, b"{}", timeout=TIMEOUT_S)).data)
    finally:
        # Also after a refused password: the socket would stay open until it is collected.
        await connection.close()
    found = told.get("data") or told
    return "" if found.get("status") == "ok" else json.dumps(found)
