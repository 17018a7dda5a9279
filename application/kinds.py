"""Which files and folders a scan takes for films, and which it passes over on purpose (docs/operations.md, Folders)."""

import re
from collections.abc import Collection

ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2", ".f4v", ".mj2", ".insv", ".360", ".lrv", ".lrf"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".tod", ".trp"),
    *(".mpg", ".mpeg", ".mpe", ".m2p", ".vob", ".mod", ".vro", ".m1v", ".m2v", ".mpv"),
    *(".avi", ".divx", ".xvid", ".wmv", ".asf", ".wtv", ".dvr-ms"),
    *(".mkv", ".mk3d", ".webm", ".flv", ".ogv", ".ogm", ".rm", ".rmvb"),
    *(".mxf", ".gxf", ".nut", ".ivf", ".dv", ".dif", ".y4m", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".vc1"),
)
"""Of the containers that `infrastructure.media.source.CONTAINERS` lets in, those that hold pictures, one row a family."""
UNREAD = (".dav", ".mjpeg", ".mjpg", ".bik", ".smk", ".swf", ".braw", ".r3d", ".ari", ".crm", ".iso", ".ifo", ".bik2")
"""Films too, or close to them, in containers that are not read."""
UNFINISHED = (
    *(".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".tmp", ".temp", ".!qb", ".aria2"),
)

_FOLDERS = frozenset((
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "@__thumb", "@appdata",
    "$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "network trash folder",
    "temporary items", "__macosx", "plex versions",
))  # fmt: skip
_SERVERS_FILES = ("synophoto_film", "synophoto_thumb", "synovideo_")


def is_film(name: str) -> bool:
    """Whether a file of this name is taken in."""
    return name.lower().endswith(ENDINGS)


def why_not_folder(name: str) -> str | None:
    """Why nothing in a folder of this name is taken in; None when it is."""
    if name.casefold() in _FOLDERS or name.lower().endswith(".trickplay"):
        return "a folder of the system, of a media server or a recycle bin"
    return "hidden" if name.startswith(".") else None


def why_not_file(name: str) -> str | None:
    """Why a file that looks like a film is not taken in; None when it is, or does not look like one."""
    low = name.lower()
    if low.endswith(UNREAD):
        return "a kind of file that is not read"
    stem, dot, ending = low.rpartition(".")
    if dot + ending in UNFINISHED and is_film(stem):
        return "still being downloaded or copied"
    if not is_film(low):
        return None
    if low.startswith("."):
        return "hidden"
    if low.startswith(_SERVERS_FILES):
        return "made by a media server"
    return "no film in spite of its ending" if low == "go.mod" else None


def may_be_proxy(name: str) -> bool:
    """Whether the name is that of a small copy that a camera made beside its film."""
    low = name.lower()
    return low.endswith((".lrv", ".lrf")) or low.startswith("lrv_")


def is_proxy(name: str, beside: Collection[str]) -> bool:
    """Whether the film that it is a small copy of lies beside it; `beside`: names in lower case."""
    stem = name.lower().rpartition(".")[0]
    if stem.startswith("lrv_"):
        # insta360: LRV_20240501_120000_11_001 of VID_20240501_120000_10_001; the number of the lens differs
        lens = re.fullmatch(r"lrv_(\d+_\d+)_\d\d(_\d+)", stem)
        films = [f"vid_{lens[1]}_{number}{lens[2]}" for number in ("00", "10")] if lens else [f"vid_{stem[4:]}"]
    else:
        # GoPro: GL010123.LRV of GX010123.MP4 or GH010123.MP4; DJI and older GoPro: the same name
        films = [stem, *(f"{kind}{stem[2:]}" for kind in ("gx", "gh", "gp", "gs") if stem.startswith("gl"))]
    endings = (".mp4", ".mov", ".360", *((".insv",) if stem.startswith("lrv_") else ()))
    return any(film + ending in beside for film in films for ending in endings)
