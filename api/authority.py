"""Hosts and origins, in the one spelling in which they are compared."""

import re
from ipaddress import IPv6Address
from typing import NamedTuple, Self

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::([0-9]{1,5})?)?")
_ORIGIN = re.compile(r"(https?)://([^/?#@]+)")
_PORTS = {"http": 80, "https": 443}
_LONGEST = 300


class Authority(NamedTuple):
    """A host, and its port if one was named."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What `text` names, in the one spelling that we compare; None when it is no host."""
        match = _AUTHORITY.fullmatch(text.strip().lower()) if len(text) <= _LONGEST else None
        if match is None:
            return None
        host, port = match[1], match[2]
        if host.startswith("["):
            try:
                host = f"[{IPv6Address(host[1:-1]).compressed}]"
            except ValueError:
                return None
        return cls(host, int(port) if port else None)


class Origin(NamedTuple):
    """Where a page comes from."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The origin that `text` names; None for `null` and whatever else is no web page's origin."""
        match = _ORIGIN.fullmatch(text.strip().lower())
        found = Authority.parse(match[2]) if match else None
        if match is None or found is None:
            return None
        return cls(match[1], found.host, _PORTS[match[1]] if found.port is None else found.port)

    def is_at(self, authority: Authority) -> bool:
        """Whether the page was served under this name. The scheme is free: a proxy may have done the encryption."""
        port = _PORTS[self.scheme] if authority.port is None else authority.port
        return (self.host, self.port) == (authority.host, port)
