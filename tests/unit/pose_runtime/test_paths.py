"""A name in somebody else's file leads nowhere but into its folder, and every reader asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose_runtime.paths import ForeignPath, Inside

ROOT = Path(__file__).parents[3]
READERS = ("pose_runtime", "client", "loadtest", "tools", "model_repository")
# What a file of others calls the place of another file.
KEYS = {"file_name", "file", "files", "path", "paths", "name", "location", "weights", "folder"}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "1.jpg").write_text("1")
    (tmp_path / "data" / "sub" / "2.jpg").write_text("2")
    (tmp_path / "secret.jpg").write_text("secret")
    (tmp_path / "data-too").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1.jpg", "1.jpg"),
        ("./1.jpg", "1.jpg"),
        ("sub/2.jpg", "sub/2.jpg"),
        ("sub\\2.jpg", "sub/2.jpg"),
        ("sub/../1.jpg", "1.jpg"),
        ("missing/3.jpg", "missing/3.jpg"),
        ("a:b.jpg", "a:b.jpg"),
        ("..jpg", "..jpg"),
    ],
)
def test_a_name_is_a_path_in_the_folder(folder, name, found):
    assert Inside(folder).path(name) == folder / found


def test_an_absolute_name_of_a_file_in_the_folder_is_that_file(folder, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(folder)
    for asked in (folder, tmp_path / "link"):
        for named in (folder, tmp_path / "link"):
            if named in (folder, asked):
                assert Inside(asked).path(str(named / "1.jpg")) == asked / "1.jpg"
    monkeypatch.chdir(tmp_path)
    assert Inside(Path("data")).path(str(folder / "1.jpg")) == Path("data/1.jpg")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "sub/../../secret.jpg",
        "..\\secret.jpg",
        "/etc/passwd",
        "{above}/secret.jpg",
        "{above}/data/../secret.jpg",
        "{above}/data-too/1.jpg",
        "..",
        ".",
        "",
        "a\0b",
        "\ud800.jpg",
        "n" * 300,
        "d/" * 3000,
        None,
        7,
        ["1.jpg"],
    ],
)
def test_a_name_that_leads_out_is_refused_in_one_line(folder, name):
    if isinstance(name, str):
        name = name.replace("{above}", str(folder.parent))
    with pytest.raises(ForeignPath) as caught:
        Inside(folder).path(name)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(folder)) + 300


def test_links_lead_where_they_may(folder):
    (folder / "out").symlink_to(folder.parent)
    (folder / "out.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "in.jpg").symlink_to(folder / "sub" / "2.jpg")
    (folder / "circle").symlink_to(folder / "circle")
    for name in ("out/secret.jpg", "out.jpg", "circle", "circle/1.jpg"):
        with pytest.raises(ForeignPath, match="expected a path inside"):
            Inside(folder).path(name)
    assert Inside(folder).path("in.jpg").read_text() == "2"


@given(st.lists(st.sampled_from(["..", ".", "a", "out", "in", "", "/", "\\", "data"]), max_size=8))
def test_whatever_is_put_together_stays_inside(tmp_path_factory, parts):
    base = tmp_path_factory.getbasetemp() / "paths"
    if not base.exists():
        (base / "data" / "a").mkdir(parents=True)
        (base / "data" / "out").symlink_to(base)
        (base / "data" / "in").symlink_to(base / "data" / "a")
    try:
        path = Inside(base / "data").path("/".join(parts))
    except ForeignPath:
        return
    assert path.resolve().is_relative_to((base / "data").resolve())


def joins_of(source: str) -> Iterator[int]:
    """Lines where a path is put together with what a record, a list or an annotation calls one."""
    for node in ast.walk(ast.parse(source)):
        right: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            right = [node.right]
        elif isinstance(node, ast.Call):
            of_text = isinstance(node.func, ast.Attribute) and isinstance(
                node.func.value, ast.Constant
            )
            called = node.func.attr if isinstance(node.func, ast.Attribute) and not of_text else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in ("Path", "PurePath", "joinpath", "join", "open", "with_name"):
                right = node.args
        if any(_is_named_in_a_file(part) for each in right for part in ast.walk(each)):
            yield node.lineno


def _is_named_in_a_file(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in KEYS
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("get", "pop")
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in KEYS
    )


def test_every_reader_asks():
    files = [path for folder in READERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    joins = [
        f"{path.relative_to(ROOT)}:{line}" for path in files for line in joins_of(path.read_text())
    ]
    assert joins == []


@pytest.mark.parametrize(
    "source",
    [
        'images_dir / image["file_name"]',
        'folder / images[0]["file_name"]',
        'Path(image["path"])',
        'os.path.join(folder, record.get("file", ""))',
        'folder.joinpath(record["weights"]).read_bytes()',
        'open(entry["file"])',
    ],
)
def test_a_join_that_does_not_ask_would_be_found(source):
    assert list(joins_of(source)) == [1]


@pytest.mark.parametrize(
    "source",
    [
        'inside.path(image["file_name"])',
        'took["ms"] / all["ms"]',
        'folder / "file_name"',
        '", ".join(model["name"])',
    ],
)
def test_what_asks_or_is_no_path_is_not_found(source):
    assert list(joins_of(source)) == []


@pytest.mark.parametrize("length", [255, 256])
def test_255_bytes_are_the_longest_name(folder, length):
    name = "ä" + "n" * (length - 2)
    if length == 255:
        assert Inside(folder).path(f"sub/{name}") == folder / "sub" / name
    else:
        with pytest.raises(ForeignPath, match="expected the name of a file in it"):
            Inside(folder).path(f"sub/{name}")


def test_what_is_longer_than_any_path_with_its_folder_is_refused(folder):
    """The name alone would be short enough."""
    left = 4095 - len(str(folder))
    longest = "d/" * ((left - 1) // 2 - 1) + "n"
    assert Inside(folder).path(longest) == folder / longest
    with pytest.raises(ForeignPath, match="expected a path inside, got 'd/d/"):
        Inside(folder).path("d/" * 2047 + "n")


@pytest.mark.parametrize(("name", "shown"), [("n" * 300, 80), ("../" + "n" * 220, 200)])
def test_a_name_is_shown_in_short(folder, name, shown):
    with pytest.raises(ForeignPath) as caught:
        Inside(folder).path(name)
    assert str(caught.value).endswith(f"got {repr(name)[:shown]}")
