"""docs/operations.md lists the metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

from api.services import Services

ROOT = Path(__file__).parents[2]
SOURCES = ("api", "cli", "workers")


def counters() -> set[str]:
    """Return the names of counters, which appear only with their first count, from where they are counted."""
    code = "\n".join(path.read_text("utf-8") for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py")))
    return {f"lizenzserver_{name}" for name in re.findall(r'metrics\.count\(\s*"([a-z_]+)"', code)}


async def test_the_documented_metrics_are_those_of_the_service(services: Services) -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    documented = re.findall(r"^\| `(lizenzserver_[a-z_]+)` \|", page, flags=re.MULTILINE)
    await services.fan_out.read()
    rendered = set(re.findall(r"^# TYPE (\S+)", services.metrics.render().decode(), flags=re.MULTILINE))
    assert set(documented) == rendered | counters()
    assert len(documented) == len(set(documented))
