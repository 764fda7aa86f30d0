"""What a power cut would leave of files: what was synced, under the names that their folders were synced with."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Takes note of every sync from now on. What is in no synced folder, or was not synced itself, is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listen to what this process does; `hasty` names the files that got their name before they were synced."""
        self._contents: dict[int, bytes] = {}
        self._names: dict[tuple[int, str], int] = {}
        self.hasty: list[str] = []
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._synced)
        for name in ("link", "replace"):
            monkeypatch.setattr(os, name, self._checked(getattr(os, name)))

    def left_of(self, path: Path) -> bytes | None:
        """Return what a file holds after a power cut; None where it is not there."""
        inode = self._names.get((path.parent.stat().st_ino, path.name))
        return None if inode is None else self._contents.get(inode)

    def _synced(self, descriptor: int) -> None:
        self._fsync(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            for entry in os.scandir(descriptor):
                self._names[found.st_ino, entry.name] = entry.inode()
        else:
            self._contents[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def _checked(self, named: Any) -> Any:
        def name(source: Any, target: Any, *rest: Any, **options: Any) -> None:
            if self._contents.get(Path(source).stat().st_ino) != Path(source).read_bytes():
                self.hasty.append(str(target))
            named(source, target, *rest, **options)

        return name
