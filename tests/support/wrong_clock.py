"""A server of the test suite whose machine's clock is wrong: `python -m tests.support.wrong_clock DATA_DIR PORT`.

It is as many seconds ahead as the file WRONG_CLOCK says, whenever it is read.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from infra import clock
from tests.support.server_process import main

_FILE = Path(os.environ["WRONG_CLOCK"])


class _WrongCalendar:
    @staticmethod
    def now(zone: Any) -> datetime:
        return datetime.now(zone) + timedelta(seconds=float(_FILE.read_text()))


if __name__ == "__main__":
    vars(clock)["datetime"] = _WrongCalendar
    main()
