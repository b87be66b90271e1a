"""`make release`: all that a release consists of, checked and written into dist/.

The version stands in `pose_runtime/__init__.py` alone, and what it brings in CHANGELOG.md under
its heading. A release is made of what git has: the tree is clean, and no tag has the version.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent
NAME: Final = "bodypose-triton"
NOT_RELEASED: Final = ("dev", "mutants")  # extras of whoever works on the project
UNRELEASED: Final = "Unreleased"


class ReleaseError(Exception):
    """Why there is no release, in one line."""


def notes_of(changelog: str, version: str) -> str:
    """What the changelog says of a version.

    Raises:
        ReleaseError: it says nothing, or has lines that belong to no version yet.
    """
    sections = {
        heading.split()[0]: text.strip()
        for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    }
    if sections.get(UNRELEASED):
        raise ReleaseError(
            f"CHANGELOG.md: expected every line under a version, got some under `{UNRELEASED}`;"
            f" move them under `## {version}`"
        )
    if not sections.get(version):
        raise ReleaseError(
            f"CHANGELOG.md: expected lines under `## {version}`, got {', '.join(sections)}; write"
            " them, or set __version__ in pose_runtime/__init__.py"
        )
    return sections[version]


def closure(
    requirements: Mapping[str, Iterable[str]], name: str, extras: Iterable[str]
) -> set[str]:
    """Every distribution that one needs with its extras, by canonical name, without itself.

    Args:
        requirements: distribution -> its requirements; one that is not installed is missing here,
            and in the result.
        name: of the distribution to start from.
        extras: of it.
    """
    found: set[str] = set()
    left = [(canonicalize_name(name), frozenset(extras))]
    seen = set(left)
    while left:
        current, wanted = left.pop()
        for text in requirements.get(current, ()):
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": each}) for each in (*wanted, "")):
                continue
            needed = canonicalize_name(requirement.name)
            if needed not in requirements:
                continue
            found.add(needed)
            node = (needed, frozenset(requirement.extras))
            if node not in seen:
                seen.add(node)
                left.append(node)
    return found - {canonicalize_name(name)}


def only(sbom: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """A CycloneDX document with the components of these canonical names, and its subject."""
    subject = sbom["metadata"]["component"]
    kept = [each for each in sbom["components"] if canonicalize_name(each["name"]) in names]
    refs = {subject["bom-ref"], *(each["bom-ref"] for each in kept)}
    needs = [
        {
            **each,
            **({"dependsOn": sorted({*each["dependsOn"]} & refs)} if "dependsOn" in each else {}),
        }
        for each in sbom["dependencies"]
        if each["ref"] in refs
    ]
    return {**sbom, "components": kept, "dependencies": needs}


def sums_of(files: Iterable[Path]) -> str:
    """The sha256 of each file, as `sha256sum -c` reads them."""
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files)
    )


def without_licence(table: str) -> list[str]:
    """The packages of pip-licenses' CSV table for which it found no licence."""
    return [row["Name"] for row in csv.DictReader(StringIO(table)) if row["License"] == "UNKNOWN"]


def release(out: Path) -> None:
    """Check, build and describe the version that the sources have."""
    from pose_runtime import __version__ as version

    notes = notes_of((ROOT / "CHANGELOG.md").read_text(), version)
    commit = _clean_commit(version)
    out.mkdir(parents=True, exist_ok=True)
    if stale := [path.name for path in out.iterdir()]:
        raise ReleaseError(f"{out}: expected an empty folder, got {', '.join(sorted(stale))}")
    os.environ["SOURCE_DATE_EPOCH"] = _git("show", "--no-patch", "--format=%ct", commit)
    _say(f"{NAME} {version} of {commit[:12]}")
    _run("build", "--outdir", out, ROOT)
    (wheel,) = out.glob("*.whl")
    extras = [
        each for each in _metadata_of(wheel).get_all("Provides-Extra") if each not in NOT_RELEASED
    ]
    installed = {
        canonicalize_name(each.name): each.requires or [] for each in metadata.distributions()
    }
    installed[NAME] = _metadata_of(wheel).get_all("Requires-Dist")
    names = closure(installed, NAME, extras)
    _write_sbom(out / f"{NAME}-{version}.cdx.json", names)
    _write_licences(out, names)
    (out / "RELEASE_NOTES.md").write_text(f"# {NAME} {version}\n\n{notes}\n")
    (out / "SHA256SUMS").write_text(sums_of(out.iterdir()))
    for file in sorted(out.iterdir()):
        _say(f"{file}  {file.stat().st_size:,} bytes")
    _say(f"then: git tag v{version} {commit[:12]}")


def _clean_commit(version: str) -> str:
    if _git("status", "--porcelain"):
        raise ReleaseError("expected a clean tree, got changes that git has not; commit them")
    if _git("tag", "--list", f"v{version}"):
        raise ReleaseError(
            f"expected a new version, got {version}, which has a tag; raise __version__ in"
            " pose_runtime/__init__.py"
        )
    return _git("rev-parse", "HEAD")


def _metadata_of(wheel: Path) -> Any:
    (found,) = metadata.distributions(path=[str(wheel)])
    return found.metadata


def _write_sbom(path: Path, names: set[str]) -> None:
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "-o", path)
    _run("cyclonedx_py", "environment", *options, sys.executable)
    sbom = only(json.loads(path.read_text()), names)
    path.write_text(json.dumps(sbom, indent=1, sort_keys=True) + "\n")
    _say(f"{len(sbom['components'])} components")


def _write_licences(out: Path, names: set[str]) -> None:
    packages = ("--packages", *sorted(names))
    table = _run("piplicenses", "--format=csv", "--with-urls", *packages)
    (out / "third-party-licences.csv").write_text(table)
    texts = _run(
        "piplicenses",
        "--format=plain-vertical",
        "--with-license-file",
        "--no-license-path",
        "--with-notice-file",
        *packages,
    )
    (out / "third-party-licences.txt").write_text(texts)
    if unknown := without_licence(table):
        _say(f"no licence in their metadata, look at them: {', '.join(unknown)}")


def _run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        problem = " ".join((done.stderr or done.stdout).split()[-60:])
        raise ReleaseError(f"{module}: expected it to end well, got {problem}")
    return done.stdout


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(f"expected a checkout of git, got {done.stderr.strip()}")
    return done.stdout.strip()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> None:
    """Entry point: why there is no release is one line on stderr and exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="Folder to write to.")
    try:
        release(parser.parse_args().out.absolute())
    except ReleaseError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
