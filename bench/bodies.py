"""The requests that programs send, as raw bytes for wrk: of known licences, or of numbers to be filled in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.fill import hardware_id, license_id, license_key
from bench.lab import Lab
from bench.load import Requests, raw_request, write_requests

VALIDATE = "/api/v1/license/validate"
ACTIVATE = "/api/v1/license/activate"
DEACTIVATE = "/api/v1/license/deactivate"
HEARTBEAT = "/api/v1/license/heartbeat"
TOKEN = "/api/v1/auth/token"  # noqa: S105 - a path

_NUMBER = "%012d"


def key_header(lab: Lab) -> dict[str, str]:
    """Return the header that names the API key."""
    return {"X-API-Key": lab.api_key}


def validation(number: int) -> dict[str, Any]:
    """Ask whether a licence's own device may run."""
    return {"license_key": license_key(number), "hardware_id": hardware_id(number), "app_version": "4.2.0"}


def token_request(number: int) -> dict[str, Any]:
    """Ask for tokens for a licence's own device."""
    return {"license_id": str(license_id(number)), "hardware_id": hardware_id(number)}


def pool(lab: Lab, name: str, path: str, asked: Iterable[tuple[dict[str, str], dict[str, Any]]]) -> Requests:
    """Return requests that are sent in turn, each with its headers and body."""
    raw = [raw_request("POST", path, headers, json.dumps(body)) for headers, body in asked]
    return Requests(write_requests(lab.folder / f"{name}.requests", raw))


def any_validation(lab: Lab, licences: int, hot: int = 0) -> Requests:
    """Return validations of random licences, each for its own device; nine of ten of the `hot` first, if any."""
    return Requests(_numbered(lab, "any-validation", VALIDATE), "random", licences, hot=hot)


def come_and_go(lab: Lab, numbers: range) -> Requests:
    """Return activations of some licences for new devices, each followed by the deactivation; for one connection."""
    return Requests(_numbered(lab, "come-and-go", ACTIVATE, DEACTIVATE), "pair", len(numbers), lowest=numbers[0])


def new_activation(lab: Lab, licences: int) -> Requests:
    """Return activations of random licences, each for a device that never was there."""
    return Requests(_numbered(lab, "new-activation", ACTIVATE), "new", licences)


def _numbered(lab: Lab, name: str, *paths: str) -> Path:
    device = {"license_key": f"LIC-{_NUMBER}", "hardware_id": f"pc-{_NUMBER}"}
    more = {path: {} if path == DEACTIVATE else {"app_version": "4.2.0"} for path in paths}
    raw = [raw_request("POST", path, key_header(lab), json.dumps(device | more[path])) for path in paths]
    return write_requests(lab.folder / f"{name}.request", raw)
