"""compose.yaml as the compose program reads it: anchors merged, variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
MAKE_SECRETS = ROOT / "infra" / "compose" / "make-secrets.sh"
ROLES = ROOT / "infra" / "compose" / "roles.sql"
BROKER_SETTINGS = ROOT / "infra" / "compose" / "rabbitmq.conf"

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read compose.yaml with these variables set."""
    loaded: dict[str, Any] = _filled_in(yaml.safe_load(COMPOSE.read_text("utf-8")), variables or {})
    return loaded


def _filled_in(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled_in(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    text = _VARIABLE.sub(lambda found: variables.get(found[1]) or found[2], value)
    assert "$" not in text, f"a variable without a default: {text}"
    return text


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def ours() -> dict[str, dict[str, Any]]:
    """Return the services that run our program."""
    return {name: service for name, service in services().items() if "build" in service}


def secrets_of(service: Mapping[str, Any]) -> dict[str, str]:
    """Return which secret is where in the container: path by name."""
    found = {}
    for each in service.get("secrets", []):
        name, target = (each, each) if isinstance(each, str) else (each["source"], each["target"])
        found[name] = target if target.startswith("/") else f"/run/secrets/{target}"
    return found


def seconds(text: str) -> float:
    """Read a duration such as 30s."""
    found = re.fullmatch(r"(\d+)s", text)
    assert found is not None, text
    return float(found[1])
