"""Starts a program that ends when its parent ends. Run as a script, stdlib only, so that it takes milliseconds.

python -I child.py PARENT_PID SIGNAL [--user UID:GID[:CAPABILITY]] -- PROGRAM ARGUMENT…

It is a script and not a `preexec_fn` because Python code between fork and exec may deadlock in a threaded parent.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become(uid: int, gid: int, capability: int | None) -> None:
    """Turn from root into that user for good, keeping at most one capability, which programs it starts keep too."""
    if capability is not None:
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        bit = 1 << capability
        header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
        sets = (_CapabilitySets * 2)(_CapabilitySets(bit, bit, bit), _CapabilitySets(0, 0, 0))
        _check(_libc.capset(ctypes.byref(header), sets))
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def main(arguments: list[str]) -> None:
    """Take on the user, ask the kernel for the signal at the parent's death, become the program."""
    split = arguments.index("--")
    options, program = arguments[:split], arguments[split + 1 :]
    parent, death_signal = int(options[0]), int(options[1])
    if len(options) > 2:  # noqa: PLR2004
        uid, gid, *rest = (int(part) for part in options[3].split(":"))
        become(uid, gid, rest[0] if rest else None)
    os.umask(0o077)  # uploads, databases and logs are nobody else's business
    # After the change of user: that clears it.
    _check(_libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0))
    if os.getppid() != parent:
        sys.exit("the parent has ended already")
    os.execvp(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
