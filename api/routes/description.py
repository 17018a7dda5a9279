"""The API's description, as data and as a page."""

from litestar import Controller, Litestar, Response, get

from api.openapi import PAGE, encoded
from api.request import Call


class Description(Controller):
    """Description."""

    include_in_schema = False

    @get("/openapi.json", media_type="application/json")
    async def data(self, request: Call) -> bytes:
        """The OpenAPI document."""
        app: Litestar = request.app
        return encoded(app)

    @get(["/", "/docs"])
    async def page(self) -> Response[bytes]:
        """A page that shows it and lets one try it; loads nothing from elsewhere."""
        return Response(
            PAGE.read_bytes(),
            media_type="text/html",
            headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"},
        )
