"""The server of `server_process`, in no hurry: however busy the machine is, nobody is refused for that."""

from __future__ import annotations

from tests.support.patience import patience
from tests.support.server_process import main

if __name__ == "__main__":
    with patience():
        main()
