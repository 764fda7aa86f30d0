"""Signed answers, verified as strangers would: PyNaCl, Node's crypto and openssl, from the public keys alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.support.client import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

NODE_VERIFIES = """
const crypto = require('crypto');
const { pem, answer, field } = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const canonical = (value) => Array.isArray(value) ? `[${value.map(canonical)}]`
  : value && typeof value === 'object'
    ? `{${Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`)}}`
    : JSON.stringify(value);
const { [field]: signature, ...rest } = answer;
const good = crypto.verify(null, Buffer.from(canonical(rest)), pem, Buffer.from(signature, 'base64'));
process.stdout.write(String(good));
"""

Verify = Callable[[dict[str, Any], dict[str, Any], str], bool]


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not on the path")
    assert path is not None
    return path


def parts(answer: dict[str, Any], field: str) -> tuple[bytes, bytes]:
    """Return what was signed, and the signature."""
    rest = {name: value for name, value in answer.items() if name != field}
    return rfc8785.dumps(rest), base64.b64decode(answer[field], validate=True)


def by_nacl(key: dict[str, Any], answer: dict[str, Any], field: str) -> bool:
    message, signature = parts(answer, field)
    try:
        VerifyKey(base64.b64decode(key["public_key"], validate=True)).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def by_node(key: dict[str, Any], answer: dict[str, Any], field: str) -> bool:
    data = json.dumps({"pem": key["pem"], "answer": answer, "field": field})
    done = subprocess.run([tool("node"), "-e", NODE_VERIFIES], input=data, capture_output=True, text=True, check=True)
    return done.stdout == "true"


def by_openssl(key: dict[str, Any], answer: dict[str, Any], field: str, folder: Path) -> bool:
    message, signature = parts(answer, field)
    for name, content in (("key.pem", key["pem"].encode()), ("message", message), ("sig", signature)):
        (folder / name).write_bytes(content)
    command = [tool("openssl"), "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem"]
    done = subprocess.run([*command, "-in", "message", "-sigfile", "sig"], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


async def public_key(client: Client, kid: str) -> dict[str, Any]:
    reply = await client.b_client("GET", "/public-key")
    (found,) = [key for key in reply["keys"] if key["kid"] == kid]
    key: dict[str, Any] = found
    return key


@pytest.fixture(params=["nacl", "node", "openssl"])
def verify(request: pytest.FixtureRequest, tmp_path: Path) -> Verify:
    if request.param == "openssl":
        return lambda key, answer, field: by_openssl(key, answer, field, tmp_path)
    return {"nacl": by_nacl, "node": by_node}[request.param]


async def test_an_activation_of_the_second_dialect(client: Client, verify: Verify) -> None:
    body = {"email": "Zoë@example.com", "product": "Ünïcode \U0001f600", "edition": 'P"ro\\', "max_activations": 2}
    license = (await client.b_admin("POST", "/licenses", {**body, "features": ["é", "a/b", "</x>"]})).body
    device = {"device_hash": "gerät\u20ac", "device_name": "Zoë's PC \U0001f680"}
    reply = await client.b_client(
        "POST", "/activate", {"email": license["email"], "license_key": license["license_key"], **device}
    )
    assert reply.status == 200
    key = await public_key(client, reply["kid"])
    assert verify(key, reply.body, "sig")
    assert not verify(key, {**reply.body, "max_activations": 3}, "sig")
    assert not verify(key, {**reply.body, "device_hash": "other"}, "sig")


async def test_the_answer_to_a_nonce_be_it_good_or_bad(client: Client, verify: Verify) -> None:
    license = await client.new_license(features=["é"], expires_in_days=9, product="P", edition="E")
    refused = await client.validate(license, "pc", fields={"nonce": "one"})
    await client.activate(license, "pc")
    good = await client.validate(license, "pc", fields={"nonce": "two \U0001f600"})
    unknown = await client.validate({"license_key": "LIC-AAAAAAAAAAAA"}, "pc", fields={"nonce": "three"})
    for reply, nonce in ((refused, "one"), (good, "two \U0001f600"), (unknown, "three")):
        assert reply["nonce"] == nonce
        key = await public_key(client, reply["kid"])
        assert verify(key, reply.body, "signature")
        assert not verify(key, {**reply.body, "valid": not reply["valid"]}, "signature")
        assert not verify(key, {**reply.body, "nonce": "another"}, "signature")


async def test_the_key_is_the_same_in_all_its_forms(client: Client) -> None:
    reply = await client.b_client("GET", "/public-key")
    raw = base64.b64decode(reply["public_key"], validate=True)
    assert len(raw) == 32
    der = base64.b64decode("".join(reply["pem"].strip().splitlines()[1:-1]))
    assert der.endswith(raw)
    jwks = {key["kid"]: key["x"] for key in (await client.request("GET", "/.well-known/jwks.json"))["keys"]}
    assert jwks[reply["kid"]] == base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert {key["kid"] for key in reply["keys"]} == set(jwks)
