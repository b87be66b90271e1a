"""What `make release` checks and writes."""

import re
from pathlib import Path

import pytest

from pose_runtime import __version__
from release import ReleaseError, closure, notes_of, only, sums_of, without_licence

ROOT = Path(__file__).parents[2]
CHANGELOG = """# Changelog

## 2.0.0

### Added

* A thing.

## 1.0.0 (2026-01-01)

* The first.
"""


def test_the_changelog_has_lines_about_this_version():
    assert notes_of((ROOT / "CHANGELOG.md").read_text(), __version__)


def test_the_version_stands_in_one_place():
    others = [
        file
        for file in (ROOT / "pyproject.toml", *ROOT.glob("*/__init__.py"), *ROOT.glob("*.py"))
        if re.search(r"^(__)?version(__)? *= *\"", file.read_text(), re.M)
    ]
    assert others == [ROOT / "pose_runtime/__init__.py"]


def test_the_notes_are_the_versions_own():
    assert notes_of(CHANGELOG, "2.0.0") == "### Added\n\n* A thing."
    assert notes_of(CHANGELOG, "1.0.0") == "* The first."


@pytest.mark.parametrize(
    ("text", "version", "said"),
    [
        (CHANGELOG, "3.0.0", "expected lines under `## 3.0.0`, got 2.0.0, 1.0.0"),
        (
            CHANGELOG.replace("## 2.0.0", "## 3.0.0\n\n## 2.0.0"),
            "3.0.0",
            "lines under `## 3.0.0`",
        ),
        (
            CHANGELOG.replace("## 2", "## Unreleased\n\n* More.\n\n## 2"),
            "2.0.0",
            "some under `Unr",
        ),
    ],
)
def test_a_changelog_that_does_not_fit_is_one_line(text, version, said):
    with pytest.raises(ReleaseError, match=re.escape(said)) as error:
        notes_of(text, version)
    assert "\n" not in str(error.value)


def test_a_release_needs_what_its_extras_need_and_nothing_more():
    requirements = {
        "ours": ["One>=1", 'two[fast]; extra == "a"', 'three; extra == "dev"', "absent"],
        "one": ["four; python_version < '2'", "Five_Six"],
        "two": ['seven; extra == "fast"', 'eight; extra == "slow"'],
        "three": [],
        "four": [],
        "five-six": ["one"],  # a circle
        "seven": [],
        "eight": [],
    }
    assert closure(requirements, "ours", ["a"]) == {"one", "two", "five-six", "seven"}


def test_the_bill_keeps_its_subject_and_drops_what_is_not_released():
    sbom = {
        "metadata": {"component": {"bom-ref": "root", "name": "ours"}},
        "components": [{"bom-ref": "1", "name": "Kept_One"}, {"bom-ref": "2", "name": "tool"}],
        "dependencies": [{"ref": "root", "dependsOn": ["1", "2"]}, {"ref": "1"}, {"ref": "2"}],
    }
    kept = only(sbom, {"kept-one"})
    assert [each["name"] for each in kept["components"]] == ["Kept_One"]
    assert kept["dependencies"] == [{"ref": "root", "dependsOn": ["1"]}, {"ref": "1"}]


def test_hashes_are_as_sha256sum_reads_them(tmp_path):
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"a")
    first, second = sums_of(tmp_path.iterdir()).splitlines()
    assert first == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a"
    assert second.startswith("e3b0c442")


def test_a_package_without_a_licence_is_named():
    table = '"Name","Version","License","URL"\n"a","1","MIT",""\n"b","2","UNKNOWN",""\n'
    assert without_licence(table) == ["b"]
