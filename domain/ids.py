"""Ids that a client chooses, apart from those that the system derives.

All streams share one name space. What the system derives is a UUID of version 5 of public text (a task, a run, a
content, a policy, a queue), so a client that chose such an id would take the place of something that is yet to come.
"""

from uuid import UUID

from domain.errors import InvalidParameter

DERIVED_VERSION = 5


def chosen(parameter: str, chosen_id: UUID, *, derived: UUID | None = None) -> UUID:
    """An id of the client's own choice; raises InvalidParameter when the system could derive it.

    `derived`: the one derived id that the client may name here.
    """
    if chosen_id.version == DERIVED_VERSION and chosen_id != derived:
        raise InvalidParameter(
            parameter,
            f"{chosen_id} is a UUID of version 5, which only the system makes;"
            " use a random (v4), time-ordered (v7) or own (v8) UUID",
        )
    return chosen_id
