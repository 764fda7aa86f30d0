"""Loads the program, and forks its processes off as it is asked: `python -m tests.support.nursery_process`.

Each line of its standard input is a request in JSON, answered in a line. `start`: the new process's id; it reads its
settings from `environ`, and where it ends or fails. `poll`: the exit code of a process, null while it runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import uvloop

from api.server import all_in_one
from cli import main as command_line
from cli import rebuild_command, workers
from cli.serve import serve
from infra import logs
from infra.first_start import ensure_credentials
from infra.postgres import Database
from infra.settings import load_settings
from projections import rebuild
from tests.support.kill_points import install, install_failure

LOADED = (rebuild_command, workers)
"""What commands import when they run."""


def main() -> None:
    """Fork processes off until standard input ends; then kill those that still run."""
    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        answer = _started(request["start"], running) if "start" in request else _ended(request["poll"], running)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _started(wanted: dict[str, Any], running: set[int]) -> int:
    pid = os.fork()
    if pid == 0:
        _become(**wanted)
    running.add(pid)
    return pid


def _ended(pid: int, running: set[int]) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    running.discard(pid)
    return os.waitstatus_to_exitcode(status)


def _become(program: str, arguments: list[str], environ: dict[str, str], log: str) -> None:
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(environ["DATA_DIR"])
        os.environ.clear()
        os.environ.update(environ)
        _disturb()
        if program == "serve":
            _serve(int(arguments[0]))
        else:
            sys.argv = ["lizenzserver", *arguments]
            command_line.main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - whatever ends it is told, and nothing of the parent may run on
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _disturb() -> None:
    if (point := os.environ.pop("KILL_AT", None)) is not None:
        install(point, int(os.environ.pop("KILL_PASS", "1")))
    if (point := os.environ.pop("FAIL_AT", None)) is not None:
        install_failure(point, int(os.environ.pop("FAIL_PASSES", "1")))
    if (size := os.environ.pop("BATCH", None)) is not None:
        rebuild._EVENTS_AT_ONCE = rebuild._USAGE_ROWS_AT_ONCE = int(size)


def _serve(port: int) -> None:
    settings = load_settings(os.environ, None)
    logs.configure(settings.log_format, settings.log_level)
    assert settings.database_url is not None
    assert settings.database_owner_url is not None
    database = Database(settings.database_url.reveal(), settings.database_owner_url.reveal())
    secrets = ensure_credentials(settings, settings.data_dir)
    uvloop.run(serve(settings, database, secrets, [(all_in_one(), port)], _say_ready))


def _say_ready() -> None:
    os.write(1, b"ready\n")


if __name__ == "__main__":
    main()
