"""Run a program as somebody else than root.

Started as a script, since it changes its own process for good:

    python -I -S unprivileged.py namespace|user UID GID FOLDER PROGRAM [ARGUMENT...]

`namespace` stays root outside, but appears as UID inside a new user namespace (user_namespaces(7)), which is enough
for programs that refuse uid 0; files stay root's. `user` becomes UID for real. The program starts in FOLDER.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CANNOT_RUN = 77
"""Exit status: the identity was refused, or it can't reach the folder or the program; stderr has one line."""

_CLONE_NEWUSER = 0x10000000


def main(arguments: list[str]) -> int:
    """Take on the identity, go to the folder, become the program. Returns only on failure, with CANNOT_RUN."""
    mode, uid, gid, folder, program = arguments[0], int(arguments[1]), int(arguments[2]), arguments[3], arguments[4]
    try:
        if mode == "namespace":
            _appear_as(uid, gid)
        else:
            _become(uid, gid)
        os.chdir(folder)
        os.execv(program, arguments[4:])  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"as uid {uid} ({mode}): {error}", file=sys.stderr)  # noqa: T201 - a script's answer
    return CANNOT_RUN


def _appear_as(uid: int, gid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", encoding="ascii")


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
