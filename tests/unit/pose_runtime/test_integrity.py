"""A model starts from the files that were built, or says which one is not."""

import marshal
import os
import py_compile
import re
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from pose_runtime.errors import SpecError
from pose_runtime.integrity import MANIFEST, changes, check_files, listing, write_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pose_runtime").mkdir()
    (tmp_path / "pose_runtime" / "spec.py").write_text("joints = 18\n")
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)))
    write_manifest(tmp_path)
    return tmp_path


def test_what_was_built_is_accepted_with_what_python_leaves(folder):
    py_compile.compile(str(folder / "pose_runtime" / "spec.py"), doraise=True)

    assert list((folder / "pose_runtime" / "__pycache__").iterdir())
    check_files(folder)


def test_a_cache_that_another_process_is_writing_is_no_change(folder, monkeypatch):
    """Eight processes start at once: each looks while others write, here in the middle of it."""
    source = folder / "pose_runtime" / "spec.py"
    looked = []

    def look(place, *arguments):
        if str(place).startswith(str(folder)):
            check_files(folder)
            looked.append(Path(place).name)
        return rename(place, *arguments)

    rename = os.replace
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr("importlib._bootstrap_external._os.replace", look)
    SourceFileLoader("spec", str(source)).get_code("spec")

    assert [re.sub(r"\d+$", "N", name) for name in looked] == [
        f"{Path(cache_from_source(str(source))).name}.N"
    ]
    check_files(folder)


@pytest.mark.parametrize("name", ["other.{tag}.pyc.1", "spec.{tag}.pyc.1.pyc", "spec.{tag}.pyc.py"])
def test_what_only_looks_like_one_is_refused(folder, name):
    cache = folder / "pose_runtime" / "__pycache__"
    cache.mkdir()
    (cache / name.format(tag=sys.implementation.cache_tag)).write_bytes(b"")
    with pytest.raises(SpecError, match="does not belong there"):
        check_files(folder)


def test_damaged_caches_are_refused(folder):
    cache = Path(py_compile.compile(str(folder / "pose_runtime" / "spec.py"), doraise=True))
    whole = cache.read_bytes()
    for content in (b"", whole[:10], whole[:20], whole[:-1], b"\0" * 4 + whole[4:]):
        cache.write_bytes(content)
        with pytest.raises(SpecError, match=r"__pycache__/spec\..*\.pyc does not belong there"):
            check_files(folder)
    cache.write_bytes(whole)
    cache.rename(cache.with_name("spec.cpython-30.pyc"))
    with pytest.raises(SpecError, match=r"spec\.cpython-30\.pyc does not belong there"):
        check_files(folder)


def test_a_cache_with_flipped_bits_is_refused_or_the_same_code(folder):
    source = folder / "pose_runtime" / "spec.py"
    source.write_text("def joints(x):\n    def inner():\n        return x\n    return inner\n")
    write_manifest(folder)
    cache = Path(py_compile.compile(str(source), doraise=True))
    whole, refused = cache.read_bytes(), 0
    listed = listing(folder)
    for place in range(16, len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        cache.write_bytes(content)
        refused += bool(changes(folder, listed, MANIFEST))
    assert refused > (len(whole) - 16) / 2


def test_a_cache_with_another_stack_is_refused(folder):
    source = folder / "pose_runtime" / "spec.py"
    cache = Path(py_compile.compile(str(source), doraise=True))
    header, code = cache.read_bytes()[:16], marshal.loads(cache.read_bytes()[16:])
    check_files(folder)
    cache.write_bytes(header + marshal.dumps(code.replace(co_stacksize=99)))
    with pytest.raises(SpecError, match=r"spec\..*\.pyc does not belong there"):
        check_files(folder)


def test_a_folder_below_one_called_pycache_is_looked_at(tmp_path):
    folder = tmp_path / "__pycache__" / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("")
    write_manifest(folder)
    (folder / "model.py").write_text("import os")

    with pytest.raises(SpecError, match=r"model\.py changed after the build"):
        check_files(folder)


@pytest.mark.parametrize("position", [0, 100, 255])
def test_one_flipped_bit_is_refused_by_name(folder, position):
    content = bytearray((folder / "model.onnx").read_bytes())
    content[position] ^= 1
    (folder / "model.onnx").write_bytes(content)

    with pytest.raises(SpecError, match=r"model\.onnx changed after the build; run `tools build"):
        check_files(folder)


def test_a_missing_file_is_refused_by_name(folder):
    (folder / "pose_runtime" / "spec.py").unlink()

    with pytest.raises(SpecError, match=r"pose_runtime/spec\.py is missing"):
        check_files(folder)


def test_a_file_too_many_is_refused_by_name(folder):
    (folder / "sitecustomize.py").write_text("import os")

    with pytest.raises(SpecError, match=r"sitecustomize\.py does not belong there"):
        check_files(folder)


@pytest.mark.parametrize("content", ["", "[1, 2", "[1, 2]", "7", "null"])
def test_a_damaged_list_is_refused(folder, content):
    (folder / MANIFEST).write_text(content)

    with pytest.raises(SpecError, match=r"manifest\.json: expected the list"):
        check_files(folder)


def test_a_missing_list_is_refused(folder):
    (folder / MANIFEST).unlink()

    with pytest.raises(SpecError, match=r"manifest\.json: expected the list"):
        check_files(folder)


@pytest.mark.parametrize(
    ("mode", "is_refused"),
    [
        (py_compile.PycInvalidationMode.TIMESTAMP, False),
        (py_compile.PycInvalidationMode.CHECKED_HASH, False),
        (py_compile.PycInvalidationMode.UNCHECKED_HASH, True),
    ],
)
def test_a_cache_that_python_would_believe_unseen_is_refused(folder, mode, is_refused):
    source = folder / "pose_runtime" / "spec.py"
    py_compile.compile(str(source), doraise=True, invalidation_mode=mode)
    if is_refused:
        with pytest.raises(SpecError, match=r"__pycache__/spec\..*\.pyc does not belong there"):
            check_files(folder)
    else:
        check_files(folder)


def test_a_cache_of_other_code_is_refused(folder):
    source = folder / "pose_runtime" / "spec.py"
    source.write_text("joints = 19\n")
    py_compile.compile(str(source), doraise=True)
    source.write_text("joints = 18\n")
    with pytest.raises(SpecError, match=r"spec\..*\.pyc does not belong there"):
        check_files(folder)


def test_caches_lie_beside_a_listed_source(folder):
    (folder / "model.py").write_text("x = 1\n")
    write_manifest(folder)
    cache = Path(py_compile.compile(str(folder / "model.py"), doraise=True))
    check_files(folder)
    other = Path(py_compile.compile(str(folder / "pose_runtime" / "spec.py"), doraise=True))
    (folder / "model.py").unlink()
    assert changes(folder, {"model.onnx": "0"}) == {
        "manifest.json": "does not belong there",
        "model.onnx": "changed after the build",
        "pose_runtime/spec.py": "does not belong there",
        cache.relative_to(folder).as_posix(): "does not belong there",
        other.relative_to(folder).as_posix(): "does not belong there",
    }


def test_links_and_empty_folders_and_pipes_are_named(folder):
    (folder / "empty").mkdir()
    (folder / "link.py").symlink_to(folder / "model.onnx")
    os.mkfifo(folder / "pipe")
    listed = listing(folder, besides=MANIFEST)
    assert list(listed) == ["model.onnx", "pose_runtime/spec.py"]
    assert changes(folder, listed, besides=MANIFEST) == {
        "empty": "is an empty folder and does not belong there",
        "link.py": "is a link and does not belong there",
        "pipe": "is no file and does not belong there",
    }
    assert changes(folder, listed | {"empty/file": "0"}, besides=MANIFEST)["empty/file"] == (
        "is missing"
    )
    assert "empty" not in changes(folder, listed | {"empty/file": "0"}, besides=MANIFEST)


def test_folders_without_end_are_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for _ in range(1200):
        os.mkdir("d")  # noqa: PTH102  a path from the root would be too long
        os.chdir("d")
    (name,) = changes(folder, listing(folder))
    assert set(name) == {"d", "/"}
    with pytest.raises(SpecError, match=r"d/d is no file and does not belong there"):
        check_files(folder)
    for _ in range(1200):  # pytest's own way of removing them ends in a RecursionError
        os.chdir("..")
        os.rmdir("d")  # noqa: PTH106


def test_beside_its_versions_a_model_has_its_config_and_warm_up(tmp_path):
    version = tmp_path / "1"
    version.mkdir()
    (version / "model.py").write_text("")
    write_manifest(version)
    (tmp_path / "helper.py").write_text("")
    check_files(version)  # no model of Triton's
    (tmp_path / "config.pbtxt").write_text("")
    (tmp_path / "warmup").mkdir()
    (tmp_path / "22").mkdir()
    with pytest.raises(SpecError, match=r"helper\.py does not belong there; run `tools build"):
        check_files(version)
    (tmp_path / "helper.py").unlink()
    check_files(version)
