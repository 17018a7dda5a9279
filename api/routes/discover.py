"""Folders: looking through them for videos, once or again and again."""

from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody

from api.request import Call
from api.sources import resolve_folder
from domain.scan import RequestScan, StopScan
from projectors.scans import ScanView, get_scan


class DiscoverBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder to look through."""

    root: Annotated[str, msgspec.Meta(max_length=4_096)]
    """Absolute path under an allowed root."""
    recursive: bool = True
    watch: bool = False
    """Look again from time to time, until the discovery is deleted."""


class DiscoveryAccepted(msgspec.Struct, frozen=True):
    """The look has begun or will."""

    discovery_id: UUID
    root: str


class Discoveries(Controller):
    """Discoveries."""

    path = "/v1"
    tags = ("Discovery",)

    @post("/discover", status_code=202)
    async def discover(self, request: Call, data: JSONBody[DiscoverBody]) -> Response[DiscoveryAccepted]:
        """Look through a folder for videos. What is there already is left alone, what changed is looked at again."""
        root = await request.disks.do(
            Path(data.root), partial(resolve_folder, data.root, request.services.media_roots)
        )
        scan_id = request.new_id("scan")
        await request.carry_out(
            RequestScan(
                stream_id=scan_id, meta=request.meta(), root=root, recursive=data.recursive, watch=data.watch
            )
        )
        return Response(
            DiscoveryAccepted(scan_id, root),
            status_code=202,
            headers={"Location": f"/v1/discoveries/{scan_id}"},
        )

    @get("/discoveries/{discovery_id:str}")
    async def one(self, request: Call, discovery_id: FromPath[UUID]) -> ScanView:
        """What was found, and which files could not be taken in."""
        async with request.reading() as connection:
            return await get_scan(connection, tenant_id=request.tenant, scan_id=discovery_id)

    @delete("/discoveries/{discovery_id:str}")
    async def stop(self, request: Call, discovery_id: FromPath[UUID]) -> None:
        """Watch the folder no longer. Its videos stay."""
        await request.carry_out(StopScan(stream_id=discovery_id, meta=request.meta()))
