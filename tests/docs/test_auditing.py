"""The dispute in docs/auditing.md: its commands, pasted, print what the page says, but for ids, times and keys."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from api.schemas.common import rfc3339
from tests.support.blocks import marked
from tests.support.command import SECONDS, Serving, environment, run
from tests.support.service import PATIENT

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "auditing.md"
COMMANDS = ("dispute-1", "dispute-2", "dispute-3", "dispute-4", "dispute-5")
WITHOUT_OUTPUT = "dispute-4"

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT[0-9:.]+Z"
_CHANGING = re.compile(rf'{_UUID}|{_TIME}|number \d+ of the \d+|"[A-Za-z0-9+/]{{40,}}=*"')
_NOT_YET_SIGNED = "No checkpoint covers this yet"


@dataclass(frozen=True)
class Story:
    """What happened, and when: the four moments of the page's commands, in their order."""

    license_id: str
    license_key: str
    revocation: str
    begin: str
    refused: str
    end: str


def tell(serving: Serving) -> Story:
    """Let happen what the page tells of: a licence is used, revoked by mistake, and given back."""
    folder = Path(serving.environ["DATA_DIR"])
    maria = {"X-Admin-API-Key": run(serving.environ, "admins", "add", "maria").stdout.split()[-1]}
    secret = {"X-Admin-Secret": (folder / "credentials" / "ADMIN_SECRET").read_text("utf-8").strip()}
    api_key = _post(f"{serving.url('auth')}/api/v1/auth/api-key", secret, client_name="Planwerk 2")["api_key"]
    licenses = f"{serving.url('admin')}/api/v1/admin/licenses"
    begin = _now()
    issued = _post(licenses, maria, customer_id="acme", max_devices=2, product="Planwerk")
    one = f"{licenses}/{issued['license_id']}"

    def use(what: str) -> None:
        body = {"license_key": issued["license_key"], "hardware_id": "laptop"}
        url = f"{serving.url('license')}/api/v1/license/{what}"
        requests.post(url, headers={"X-API-Key": api_key}, json=body, timeout=SECONDS)

    use("activate")
    use("validate")
    requests.delete(one, headers=maria, timeout=SECONDS).raise_for_status()
    use("validate")
    refused = _now()
    history = requests.get(f"{one}/history", headers=maria, timeout=SECONDS).json()["events"]
    revocation = next(event["event_id"] for event in history if event["type"] == "license.deactivated")
    _post(f"{one}/corrections", maria, event_id=revocation, reason="meant for another customer")
    use("validate")
    return Story(issued["license_id"], issued["license_key"], revocation, begin, refused, _now())


def _now() -> str:
    return rfc3339(datetime.now(UTC))


def _post(url: str, headers: dict[str, str], **body: Any) -> Any:
    response = requests.post(url, headers=headers, json=body, timeout=SECONDS)
    response.raise_for_status()
    return response.json()


def of(story: Story, commands: str) -> str:
    """Put what happened here where a command of the page names what happened there."""
    moments = iter((story.begin, story.end) if "--from" in commands else (story.refused,))
    commands = re.sub(_TIME, lambda _: next(moments), commands)
    commands = re.sub(r"LIC-[0-9A-Z]{12}", story.license_key, commands)
    return re.sub(_UUID, story.revocation if "receipt" in commands else story.license_id, commands)


class Shell:
    """A terminal in a folder beside the service, with the page's program and its key in it."""

    def __init__(self, serving: Serving, folder: Path) -> None:
        admin_key = Path(serving.environ["DATA_DIR"], "credentials", "ADMIN_API_KEY").read_text("utf-8").strip()
        self.folder = folder
        self.port = serving.environ["ADMIN_PORT"]
        self.environ = {**serving.environ, "ADMIN": f"X-Admin-API-Key: {admin_key}", "PATH": os.environ["PATH"]}
        shutil.copytree(ROOT / "docs" / "examples", folder / "docs" / "examples")
        self.run("lizenzserver audit key > key.txt")

    def run(self, commands: str) -> str:
        """Run commands; return what they print. Whoever is told that nothing is signed yet tries again, as it says."""
        program = f"lizenzserver() {{ {sys.executable} -c 'from cli.main import main; main()' \"$@\"; }}\n"
        here = commands.replace("localhost:5004/", f"localhost:{self.port}/")
        deadline = time.monotonic() + SECONDS
        while True:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", program + here],
                cwd=self.folder, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                check=False, timeout=SECONDS,
            )  # fmt: skip
            if done.returncode == 0:
                return done.stdout
            assert _NOT_YET_SIGNED in done.stderr, done.stderr
            assert time.monotonic() < deadline, "nothing was signed"


def test_the_dispute_is_answered_by_the_commands_of_the_page(tmp_path: Path) -> None:
    with Serving(environment(tmp_path / "var", **PATIENT)) as serving:
        story = tell(serving)
        shell = Shell(serving, tmp_path)
        for mark in COMMANDS:
            printed = shell.run(of(story, marked(PAGE, mark)))
            if mark != WITHOUT_OUTPUT:
                assert _CHANGING.sub("…", printed) == _CHANGING.sub("…", marked(PAGE, f"{mark}-output"))
        assert serving.end(signal.SIGTERM) == 0
