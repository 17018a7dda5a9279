"""Keeping passwords out of everything that is printed or logged."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

MASK = "***"
_USER_INFO = re.compile(r"(?<=://)[^\s/?#\"'<>@:]*(?::[^\s/?#\"'<>]*)?@")
"""What stands before the host of a URL (RFC 3986). A host follows, so the last @ ends it."""
_PASSWORD_FIELD = re.compile(r"(?i)\b((?:ssl)?password|passwd|token|secret)=(?!\*)[^\s&;,\"']+")
"""In libpq's connection strings and in the query of a URL."""
_SECRET_VARIABLES = (
    "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET",
)  # fmt: skip
_SHORTEST = 6
"""A shorter secret is hidden in URLs only: replaced wherever its characters stand it would make texts unreadable."""
_OPEN = ("eioku", "postgres")
"""Passwords that are names, as in compose.yaml; the same holds for them."""

_known = {value for name in _SECRET_VARIABLES if len(value := os.environ.get(name, "")) >= _SHORTEST}


def remember(url: str) -> None:
    """Hide the password of `url` from now on, also where a library quotes it without its URL."""
    _known.update(_secrets_of(url))


def redacted(text: str) -> str:
    """`text` without user names and passwords of URLs, password fields, and every secret this process knows."""
    if not text:
        return text
    for secret in _known:
        text = text.replace(secret, MASK)
    if "://" in text:
        text = _USER_INFO.sub(_masked, text)
    if "=" in text:
        text = _PASSWORD_FIELD.sub(rf"\1={MASK}", text)
    return text


def _masked(match: re.Match[str]) -> str:
    user, colon, _ = match[0].partition(":")
    # A name alone can be a token, as NATS has it.
    return f"{user}:{MASK}@" if colon else f"{MASK}@"


def _secrets_of(url: str) -> Iterator[str]:
    """Passwords in a URL or a comma-separated list of them, as they stand there and decoded."""
    for match in _USER_INFO.finditer(url):
        user, colon, rest = match[0].removesuffix("@").partition(":")
        yield from _forms(rest if colon else user)
    for match in _PASSWORD_FIELD.finditer(url):
        yield from _forms(match[0].partition("=")[2])


def _forms(secret: str) -> Iterator[str]:
    """As it stands in the URL, and decoded."""
    if len(secret) >= _SHORTEST and secret not in _OPEN:
        yield secret
        yield unquote(secret)
