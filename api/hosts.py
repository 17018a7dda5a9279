"""Which names this API answers to, and which pages may change things through it (docs/adr/0026).

Without authentication the address that a request comes from proves nothing: every page that a person opens reaches this
machine through their browser. Three headers that no page can forge tell such requests apart.
"""

from collections.abc import Iterable

from litestar.types import HTTPScope

from api.authority import Authority, Origin
from api.problems import Forbidden, HostNotOurs, MalformedHead

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""
_REMEDY = "name your own page's host in EIOKU_HOSTS, other origins that may change things in EIOKU_CORS_ORIGINS"


class Hosts:
    """The names that are ours, and the origins of others that are let in."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str]) -> None:
        """`hosts` with a port mean that port alone; the names of this machine's loopback always count."""
        self._named = frozenset(filter(None, map(Authority.parse, hosts)))
        self._hosts = self._named | frozenset(filter(None, map(Authority.parse, LOOPBACK)))
        self._origins = frozenset(filter(None, map(Origin.parse, origins)))

    def check(self, scope: HTTPScope) -> None:
        """Let a request pass that names us and that no foreign page made.

        Raises:
            MalformedHead: not exactly one Host.
            HostNotOurs: it names somebody else, so the browser was led here under a foreign name.
            Forbidden: it changes something, and a page of another origin sent it.
        """
        hosts, sites, origins = [], [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"sec-fetch-site":
                sites.append(value)
            elif name == b"origin":
                origins.append(value)
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            raise MalformedHead("a request has exactly one Host header")
        host = Authority.parse(hosts[0].decode("latin-1")) if hosts else None
        if host is None or not (host in self._hosts or Authority(host.host, None) in self._hosts):
            named = hosts[0].decode("latin-1")[:100] if hosts else ""
            raise HostNotOurs(f"this server does not answer to {named!r}; EIOKU_HOSTS names the hosts it answers to")
        if scope["method"] in SAFE:
            return
        if not origins and not sites:
            return  # a program, not a page
        listed = [Origin.parse(value.decode("latin-1")) for value in origins]
        if len(listed) == 1 and listed[0] in self._origins:
            return
        if sites and sites not in ([b"same-origin"], [b"none"]):
            raise Forbidden(f"a page of another site sent this; {_REMEDY}")
        if origins and not (len(listed) == 1 and listed[0] is not None and self._is_ours(listed[0], host)):
            raise Forbidden(f"a page of another origin sent this; {_REMEDY}")

    def _is_ours(self, origin: Origin, host: Authority) -> bool:
        # A proxy may have replaced the Host: a page under a name of EIOKU_HOSTS is ours as well.
        return origin.is_at(host) or any(origin.is_at(named) for named in self._named)
