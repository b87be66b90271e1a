"""A missing package is one line that works where the reader is."""

import re
import tomllib
from pathlib import Path

import pytest

from pose_runtime.errors import PoseError
from pose_runtime.extras import EXTRA_OF, MissingPackage, explained, install_line, require

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
# Imported name -> distribution, where they differ.
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "pytriton": "nvidia-pytriton",
    "skimage": "scikit-image",
    "tensorflow": "tensorflow-cpu",
    "yaml": "PyYAML",
}
FROM_OTHERS = {"h5py"}  # what keras needs itself


def brought_by(extra: str) -> set[str]:
    """Distributions of an extra, of the extras that it names too."""
    found = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        if own := re.match(r"bodypose-triton\[(.*)\]", requirement):
            found |= set().union(*map(brought_by, own[1].split(",")))
        else:
            found.add(re.match(r"[\w-]+", requirement)[0])
    return found


def test_in_a_checkout_the_line_installs_its_folder():
    assert install_line("train") == "`pip install -e '.[train]' -c constraints.txt`"


def test_elsewhere_the_line_names_the_distribution():
    line = install_line("train", "export", checkout=False)
    assert line == '`pip install "bodypose-triton[train,export]"`'


@pytest.mark.parametrize("package", sorted(set(EXTRA_OF) - FROM_OTHERS))
def test_the_extra_of_a_hint_brings_the_package(package):
    assert DISTRIBUTIONS.get(package, package) in brought_by(EXTRA_OF[package])


def test_what_is_required_is_found_before_the_work_starts():
    require("numpy")
    with pytest.raises(MissingPackage, match=r"the package not_here, got none; run `pip install"):
        require("numpy", "not_here")


def test_a_failed_import_is_explained_by_its_extra():
    error = explained(ModuleNotFoundError("...", name="cv2.gapi"))
    assert isinstance(error, PoseError)
    assert isinstance(error, ImportError)
    assert "expected the package cv2, got none" in str(error)
    assert "[draw]" in str(error)
    assert "[tools]" in str(explained(ModuleNotFoundError(name="cv2"), {"cv2": "tools"}))


def test_a_failed_import_of_anything_else_stays_as_it_is():
    error = ModuleNotFoundError(name="not_ours")
    assert explained(error) is error
