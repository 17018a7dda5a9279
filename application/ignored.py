"""`.nomedia` and `.eiokuignore`: what people want left alone."""

import os
import stat
from pathlib import Path

import msgspec
from pathspec import GitIgnoreSpec

from domain.scan import ScanProblem

NO_MEDIA = ".nomedia"
NAME = ".eiokuignore"
MOST_BYTES = 65_536
MOST_LINES = 1_000
MOST_STARS = 3
"""In one pattern, `**` apart: each makes matching a name of 255 characters up to 255 times slower."""


class Rules(msgspec.Struct, frozen=True):
    """The rules that hold in a folder: its own, then those of the folders above."""

    folder: str = ""
    spec: GitIgnoreSpec | None = None
    above: "Rules | None" = None

    def ignore(self, path: str, *, is_folder: bool) -> bool:
        """Whether the nearest rule that speaks of the path says so, as Git has it."""
        rules: Rules | None = self
        while rules is not None:
            if rules.spec is not None:
                relative = os.path.relpath(path, rules.folder) + ("/" if is_folder else "")
                said = rules.spec.check_file(relative).include
                if said is not None:
                    return said
            rules = rules.above
        return False


def rules_in(folder: str, above: Rules) -> tuple[Rules, ScanProblem | None]:
    """The rules that hold in a folder, and what is wrong with its own, which then do not count."""
    path = Path(folder) / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return above, None
    except OSError as error:
        return above, ScanProblem(str(path), f"cannot be opened, so it is not followed: {os.strerror(error.errno or 0)}")
    with os.fdopen(descriptor, "rb") as file:
        try:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is no regular file")  # noqa: TRY301 - one way to tell
            body = file.read(MOST_BYTES + 1)
            return Rules(folder, _parsed(body), above), None
        except (OSError, ValueError) as error:
            return above, ScanProblem(str(path), f"is not followed: {error}")


def _parsed(body: bytes) -> GitIgnoreSpec:
    if len(body) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    lines = body.decode("utf-8-sig").splitlines()
    if len(lines) > MOST_LINES:
        raise ValueError(f"it has more than {MOST_LINES} lines")
    for number, line in enumerate(lines, 1):
        if line.replace("**", "").count("*") > MOST_STARS:
            raise ValueError(f"line {number} has more than {MOST_STARS} stars")
    return GitIgnoreSpec.from_lines(lines)
