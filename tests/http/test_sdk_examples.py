"""Programs as integrators write them: Python with requests, JavaScript with fetch, and curl on a shell."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from typing import Any

import pytest

from tests.support.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

PYTHON = """
import os, requests

response = requests.post(
    os.environ["BASE"] + "/api/v1/license/validate",
    headers={"X-API-Key": os.environ["KEY"]},
    json={"license_key": os.environ["LICENSE"], "hardware_id": os.environ["DEVICE"]},
)
if response.status_code == 200:
    print("valid" if response.json()["valid"] else "not valid")
else:
    answer = response.json()
    print(answer["valid"], answer["error_code"])
"""

JAVASCRIPT = """
const { BASE, KEY, LICENSE, DEVICE } = process.env;
fetch(`${BASE}/api/v1/license/validate`, {
    method: 'POST',
    headers: { 'X-API-Key': KEY, 'Content-Type': 'application/json' },
    body: JSON.stringify({ license_key: LICENSE, hardware_id: DEVICE }),
})
    .then((response) => response.json())
    .then((answer) => console.log(answer.valid ? 'valid' : `${answer.valid} ${answer.error_code}`));
"""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not on the path")
    assert path is not None
    return path


async def run(*command: str, **environ: str) -> str:
    """Run a program to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_a_program_learns_whether_it_may_run(client: Client, language: str) -> None:
    license = await client.new_license()
    await client.activate(license, "device-123")
    program = (sys.executable, "-c", PYTHON) if language == "python" else (tool("node"), "-e", JAVASCRIPT)
    environ = {"BASE": client.base, "KEY": client.api_key, "LICENSE": license["license_key"]}
    said = await asyncio.gather(
        run(*program, **environ, DEVICE="device-123"),
        run(*program, **environ, DEVICE="device-124"),
    )
    assert said[0] == "valid"
    assert said[1].lower() == "false device_not_activated"


class Shell:
    """Calls curl as the second document's quick start does: silent, showing errors, one credential header."""

    def __init__(self, client: Client) -> None:
        self.base = f"{client.base}/licenses-api/v1"
        self.as_client = f"X-Client-Token: {client.secrets.client_token}"
        self.as_admin = f"X-Admin-Token: {client.secrets.admin_token}"

    async def post(self, credential: str, path: str, body: str) -> tuple[int, Any]:
        more = ["-X", "POST", "-H", "Content-Type: application/json", "-d", body]
        return await self._run(credential, path, *more)

    async def get(self, credential: str, path: str) -> tuple[int, Any]:
        return await self._run(credential, path)

    async def _run(self, credential: str, path: str, *more: str) -> tuple[int, Any]:
        out = await run(tool("curl"), "-sS", "-w", "\n%{http_code}", "-H", credential, *more, f"{self.base}{path}")
        body, _, status = out.rpartition("\n")
        return int(status), json.loads(body)


async def test_the_second_dialects_quick_start_on_a_shell(client: Client) -> None:
    shell = Shell(client)
    status, license = await shell.post(
        shell.as_admin,
        "/admin/licenses",
        '{\n"email":"pilote@example.com",\n"product":"VotreProduit",\n"edition":"Pro",\n"max_activations":3,\n'
        '"features":["featA","featB"]\n}',
    )
    assert status == 201
    key, device = license["license_key"], "ab" * 32
    status, token = await shell.post(
        shell.as_client,
        "/activate",
        f'{{\n"email":"pilote@example.com",\n"license_key":"{key}",\n'
        f'"device_hash":"{device}",\n"device_name":"Mon PC"\n}}',
    )
    assert (status, token["activations"], token["features"]) == (200, 1, ["featA", "featB"])
    status, keys = await shell.get(shell.as_client, "/public-key")
    assert (status, keys["kid"]) == (200, token["kid"])
    status, found = await shell.get(shell.as_admin, "/admin/licenses?email=pilote@example.com&enabled=true")
    assert (status, [item["license_key"] for item in found["items"]]) == (200, [key])
    for enabled in ("false", "true"):
        body = f'{{"license_key":"{key}","enabled":{enabled},"email":"pilote@example.com"}}'
        status, shown = await shell.post(shell.as_admin, "/admin/licenses/enable", body)
        assert (status, json.dumps(shown["enabled"])) == (200, enabled)
    body = f'{{"license_key":"{key}","device_hash":"{device}","email":"pilote@example.com"}}'
    status, shown = await shell.post(shell.as_admin, "/admin/deactivate-device", body)
    assert (status, shown["activations"]) == (200, 0)
    body = f'{{"license_key_hash":"{token["license_key_hash"]}","device_hash":"{device}"}}'
    status, gone = await shell.post(shell.as_client, "/deactivate", body)
    assert (status, set(gone)) == (404, {"detail"})


async def test_curl_without_a_credential_is_told_so(client: Client) -> None:
    shell = Shell(client)
    status, answer = await shell.get("X-Nothing: 1", "/public-key")
    assert (status, answer) == (401, {"detail": "invalid client/admin token"})
