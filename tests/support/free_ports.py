"""Ports that are still free when a server comes to listen on them.

Of its own range, the kernel gives any free port to whoever asks for one, and to each connection that goes out: one that
was found free there may be taken a moment later. These are below that range, and each test process has its own.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cache
from itertools import cycle, islice
from pathlib import Path

BLOCKS, SIZE = 20, 500
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, and that nobody was given of late."""
    return [_mine().free() for _ in range(count)]


class _Block:
    """Some ports that are this process's as long as it lives: it holds a name that nobody else can have meanwhile."""

    def __init__(self) -> None:
        end = int(_RANGE.read_text().split()[0])
        self._name = socket.socket(socket.AF_UNIX)
        for number in range(BLOCKS):
            with suppress(OSError):
                self._name.bind(f"\0lizenzserver-test-ports-{number}")
                self._ports = cycle(range(end - (number + 1) * SIZE, end - number * SIZE))
                return
        raise RuntimeError(f"{BLOCKS} processes have ports already")

    def free(self) -> int:
        for port in islice(self._ports, SIZE):
            with suppress(OSError), socket.socket() as probe:
                probe.bind(("", port))
                return port
        raise RuntimeError("no port is free")


@cache
def _mine() -> _Block:
    return _Block()
