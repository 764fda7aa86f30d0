"""Code blocks of the documents, by the comment before them."""

from __future__ import annotations

import re
from pathlib import Path


def marked(page: Path, mark: str) -> str:
    """Return the code block of a page that follows `<!-- mark -->`."""
    found = re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert found is not None, f"{page.name} has no block marked {mark}"
    return found[1]
