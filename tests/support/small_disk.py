"""A file system of a few megabytes, which a test can fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_PIECE = 4096


class SmallDisk:
    """Mounted at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Take all space but so many bytes."""
        most = self.free()
        with self._ballast.open("ab", buffering=0) as ballast:
            while (size := min(self.free() - leave, most) // _PIECE * _PIECE) > 0:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.tell(), size)
                except OSError:
                    # All or nothing: somebody has taken a little of it meanwhile.
                    most = size // 2
                ballast.seek(0, os.SEEK_END)

    def make_room(self) -> None:
        """Give the space back."""
        self._ballast.unlink()

    def free(self) -> int:
        """Return how many bytes are free."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs. It takes root's rights: without them the test is skipped, but fails where CI is set."""
    with TemporaryDirectory(prefix="lizenzserver-disk-") as folder:
        options = f"size={megabytes}m,mode=0755"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            reason = f"a small disk can't be mounted: {mounted.stderr.strip()}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        try:
            yield SmallDisk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
