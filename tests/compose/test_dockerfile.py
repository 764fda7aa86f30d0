"""The image holds the whole program and nothing else, and does not run as root. It is not built here: no engine."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

from tests.compose.files import DOCKERFILE, ROOT

PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")


def instructions() -> list[tuple[str, str]]:
    """Return name and arguments of each instruction, continued lines joined."""
    lines = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def copied() -> list[str]:
    """Return what is copied from the project's folder."""
    sources = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for each in sources for source in each]


def test_the_image_does_not_run_as_root() -> None:
    final = stages()[-1]
    users = [rest for name, rest in final if name == "USER"]
    assert users == ["10001:10001"]
    # By number, so that an orchestrator can see that it is not root.
    after = final[final.index(("USER", "10001:10001")) :]
    assert {name for name, _ in after} <= {"USER", "WORKDIR", "EXPOSE", "CMD"}


def test_every_package_is_copied_and_all_that_is_copied_is_there() -> None:
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert sorted(set(copied())) == sorted({"requirements.txt", "pyproject.toml", *PACKAGES})
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    included = configured["tool"]["setuptools"]["packages"]["find"]["include"]
    assert sorted(name for name in included if "*" not in name) == PACKAGES


def test_what_is_installed_is_pinned() -> None:
    installs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert "--require-hashes" in installs[0]
    assert "-r requirements.txt" in installs[0]
    assert all("--require-hashes" in each or "--no-deps --no-build-isolation" in each for each in installs)
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert set(bases) == {"${PYTHON}"}
    assert ("ARG", "PYTHON=python:3.11-slim-bookworm") in instructions()


def test_the_final_stage_takes_the_environment_and_brings_no_tools() -> None:
    final = stages()[-1]
    assert [rest for name, rest in final if name == "COPY"] == ["--from=build /opt/lizenzserver /opt/lizenzserver"]
    runs = " ".join(rest for name, rest in final if name == "RUN")
    assert "install" not in runs.replace("uninstall", "")
    assert "uninstall" in runs


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    assert sorted(let_in) == sorted(set(copied()))
    kept_out = [rule for rule in rules[1:] if not rule.startswith("!")]
    assert rules.index(kept_out[0]) > rules.index(f"!{let_in[-1]}")


def test_what_is_copied_makes_the_whole_program(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in set(copied()):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=_ignored)
        else:
            shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "."], cwd=source, check=True, timeout=120)
    (wheel,) = source.glob("lizenzserver-*.whl")
    with ZipFile(wheel) as packed:
        inside = {name for name in packed.namelist() if ".dist-info/" not in name}
        scripts = next(packed.read(name).decode() for name in packed.namelist() if name.endswith("entry_points.txt"))
    kinds = ("*.py", "*.sql", "*.html", "*.css")
    expected = {
        str(path.relative_to(source))
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if any(fnmatch.fnmatch(path.name, kind) for kind in kinds)
    }
    assert inside == expected
    assert "lizenzserver = cli.main:main" in scripts


def _ignored(folder: str, names: list[str]) -> set[str]:
    """Leave out what .dockerignore does."""
    here = Path(folder)
    return {name for name in names if name == "__pycache__" or here / name == ROOT / "infra" / "compose"}
