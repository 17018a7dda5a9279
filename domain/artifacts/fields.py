"""Field types that several payloads share."""

from typing import Annotated

from msgspec import Meta

Confidence = Annotated[
    float, Meta(ge=0, le=1, description="Model score in [0, 1]; not comparable between models.")
]
Unit = Annotated[float, Meta(ge=0, le=1)]
Box = Annotated[
    tuple[Unit, Unit, Unit, Unit],
    Meta(description="(left, top, width, height), each in [0, 1] of the displayed frame, origin top left."),
]
Point = tuple[Unit, Unit]
Polygon = Annotated[
    tuple[Point, ...],
    Meta(min_length=3, description="Corners (x, y) in [0, 1] of the displayed frame, in order."),
]
Text = Annotated[str, Meta(min_length=1, max_length=100_000)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]
Language = Annotated[
    str, Meta(pattern="^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$", max_length=100, description="BCP 47 tag.")
]
Index = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Millis = Annotated[int, Meta(ge=0, le=2**53 - 1)]
