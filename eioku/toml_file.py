"""Reading TOML files that people write."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from domain.errors import InvalidParameter

MOST_BYTES = 256 << 10
"""A settings or pipeline file has a few kilobytes; a larger one is another file."""
MOST_IN_LINE = 4_000
"""Characters. The parser's time grows with the square of the dots in a key."""


def read_toml(path: Path, variable: str) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and its values.

    Raises:
        InvalidParameter: it cannot be read, is not a regular file, is too large or is not TOML; names `variable`.
        FileNotFoundError: there is none.
    """
    try:
        # A pipe that nobody writes to would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidParameter(variable, f"{path} is not a regular file")
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise InvalidParameter(variable, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > MOST_BYTES:
        raise InvalidParameter(variable, f"{path} has more than {MOST_BYTES} bytes: is it the right file?")
    try:
        text = content.decode("utf-8-sig")
        long = next((n for n, line in enumerate(text.splitlines(), 1) if len(line) > MOST_IN_LINE), None)
        if long is not None:
            raise InvalidParameter(variable, f"{path}, line {long}: longer than {MOST_IN_LINE} characters")
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise InvalidParameter(variable, f"{path} is not UTF-8 text (byte {error.start})") from error
    except ValueError as error:  # also of numbers with thousands of digits
        raise InvalidParameter(variable, f"{path}: {error}") from error
    except RecursionError as error:
        raise InvalidParameter(variable, f"{path}: its values are nested too deep") from error
