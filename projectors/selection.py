"""Which runs count for a request: one rule for every query over artifacts."""

from uuid import UUID

import msgspec

from domain.errors import ConflictingFilters, InvalidParameter
from domain.selection import MODES, Mode

_FLAGS = {
    "default": "is_latest",
    "latest": "is_latest",
    "latest_per_language": "is_latest_of_language",
    "best_quality": "is_best",
}


class SelectionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about runs; nothing at all = the stored policies."""

    run_id: UUID | None = None
    mode: Mode | None = None
    profile: str | None = None


STORED = SelectionFilter()
"""The stored policies."""


def selection_filter(
    *, run_id: UUID | None = None, selection: str | None = None, profile: str | None = None
) -> SelectionFilter:
    """The filter of a request's `run_id`, `selection` and `profile`.

    Raises:
        InvalidParameter: no such mode, or a mode without what it needs; names the parameter.
        ConflictingFilters: a profile with a mode that takes none.
    """
    if selection is None:
        mode: Mode | None = None if profile is None else "profile"
    else:
        mode = next((known for known in MODES if known == selection), None)
        if mode is None:
            raise InvalidParameter("selection", f"{selection!r} is none of {', '.join(MODES)}")
    if profile is not None and not profile.strip():
        raise InvalidParameter("profile", "may not be blank")
    if mode == "pinned" and run_id is None:
        raise InvalidParameter("run_id", "selection=pinned needs the run")
    if mode == "profile" and profile is None:
        raise InvalidParameter("profile", "selection=profile needs the profile's name")
    if profile is not None and mode != "profile":
        raise ConflictingFilters(f"profile and selection={mode} exclude each other")
    return SelectionFilter(run_id=run_id, mode=mode, profile=profile)


def clause(f: SelectionFilter, alias: str = "r") -> tuple[str, dict[str, object]]:
    """SQL condition on `run_types AS alias`, and its parameters.

    A run that the request names beats its mode and profile, these beat the stored policy.
    """
    if f.run_id is not None:
        return f"{alias}.run_id = %(selected_run_id)s", {"selected_run_id": f.run_id}
    match f.mode:
        case None:
            return f"{alias}.is_selected", {}
        case "all":
            return "true", {}
        case "profile":
            return (
                f"({alias}.is_latest_of_profile AND {alias}.profile = %(selected_profile)s)",
                {"selected_profile": f.profile},
            )
        case "pinned":
            raise InvalidParameter("run_id", "selection=pinned needs the run")
        case mode:
            return f"{alias}.{_FLAGS[mode]}", {}
