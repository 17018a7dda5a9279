"""Names of subjects. A tenant's name is one token; characters that a token may not hold are percent-encoded."""

from urllib.parse import quote
from uuid import UUID

COMMANDS = "eioku.*.cmd.>"
RESULTS = "eioku.*.result.>"
EVENTS = "eioku.*.event.>"
ALL_PROGRESS = "eioku.*.progress.*"
ALL_CANCELS = "eioku.*.cancel.*"


def token(name: str) -> str:
    """`name` as one subject token."""
    return quote(name, safe="").replace(".", "%2E").replace("~", "%7E") or "%"


def command(tenant_id: str, priority: str, task_type: str, task_id: UUID) -> str:
    """Where a task waits for a worker."""
    return f"eioku.{token(tenant_id)}.cmd.{priority}.{token(task_type)}.{task_id}"


def commands_of(tenant_id: str, task_id: UUID) -> str:
    """Every place where the task may wait, whatever its priority."""
    return f"eioku.{token(tenant_id)}.cmd.*.*.{task_id}"


def queued(priority: str, task_type: str) -> str:
    """Where the server tells that a command was stored (core NATS, headers only)."""
    return f"eioku.queued.{priority}.{token(task_type)}"


def result(tenant_id: str, task_type: str, run_id: UUID) -> str:
    """Where a worker says what came of an attempt."""
    return f"eioku.{token(tenant_id)}.result.{token(task_type)}.{run_id}"


def event(tenant_id: str, topic: str) -> str:
    """Where other systems read: `topic` is `<stream>.<event>`, two tokens."""
    return f"eioku.{token(tenant_id)}.event.{topic}"


def progress(tenant_id: str, task_id: UUID | str) -> str:
    """Where a running task says how far it is (core NATS)."""
    return f"eioku.{token(tenant_id)}.progress.{task_id}"


def cancel(tenant_id: str, task_id: UUID) -> str:
    """Where a running task is called off (core NATS)."""
    return f"eioku.{token(tenant_id)}.cancel.{task_id}"


def assist(tenant_id: str, task_type: str) -> str:
    """Where a worker offers pieces of a long job to idle ones (core NATS)."""
    return f"eioku.{token(tenant_id)}.assist.{token(task_type)}"


def assist_of_all(task_type: str) -> str:
    """The offers of all tenants."""
    return f"eioku.*.assist.{token(task_type)}"


def assisted_run(tenant_id: str, task_type: str, run_id: UUID) -> str:
    """Where helpers ask for pieces of one run, and hand in what they found."""
    return f"{assist(tenant_id, task_type)}.{run_id}"
