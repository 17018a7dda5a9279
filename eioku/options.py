"""What several commands of the command line share: options, and the API to ask."""

from pathlib import Path
from typing import Any

import click

from domain.errors import ServiceUnavailable

data = click.option(
    "--data", type=click.Path(path_type=Path), envvar="EIOKU_DATA", help="Folder for everything that is stored."
)
as_json = click.option("--json", "as_json", is_flag=True, envvar="EIOKU_JSON", help="JSON instead of a table.")
api = click.option("--api-url", envvar="EIOKU_API_URL", help="The API to ask; default: the one that runs on --data.")


def client_of(flags: dict[str, Any]) -> Any:
    """The API that these flags name, or that runs on the data folder.

    Raises:
        ServiceUnavailable: none runs there.
    """
    from eioku.client import Client
    from eioku.settings import load
    from eioku.supervisor import START_S, running_on

    settings = load(**flags)
    if settings.api_url is not None:
        return Client(settings.api_url)
    running = running_on(settings.data, patience_s=START_S)
    if running is None or running.api_url is None:
        raise ServiceUnavailable(f"no Eioku runs on {settings.data}: start `eioku up`, or name one with --api-url")
    return Client(running.api_url)
