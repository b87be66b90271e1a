import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodypose_client.errors import FileError
from bodypose_client.files.output_file import write_file
from bodypose_client.files.picture_file import OutputPathError, picture_paths, write_picture


def test_one_image_goes_to_the_file_that_is_named():
    assert picture_paths([Path("a.jpg")], Path("out.png")) == [Path("out.png")]


def test_several_images_go_to_a_folder_under_their_names():
    images = [Path("x/a.jpg"), Path("y/a.jpg"), Path("y/b.gif")]

    assert picture_paths(images, Path("out")) == [
        Path("out/a.jpg"),
        Path("out/a-2.jpg"),
        Path("out/b.jpg"),
    ]


def test_several_images_do_not_fit_into_one_file():
    with pytest.raises(OutputPathError, match=r"expected a folder for 2 images, got file out\.jpg"):
        picture_paths([Path("a.jpg"), Path("b.jpg")], Path("out.jpg"))


@pytest.mark.parametrize("out", ["a.jpg", "."])
def test_a_picture_never_replaces_its_image(out):
    with pytest.raises(OutputPathError, match="another place than the image itself"):
        picture_paths([Path("a.jpg")], Path(out))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.jpg", "A.JPG"])
def test_pictures_keep_their_colours(tmp_path, name):
    pixels = np.full((16, 16, 3), (200, 100, 50), np.uint8)

    write_picture(tmp_path / "new" / name, pixels)

    bgr = cv2.imread(str(tmp_path / "new" / name))
    assert abs(bgr[8, 8].astype(int) - (50, 100, 200)).max() <= 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(FileError, match="expected a place to write to"):
        write_file(tmp_path / "file" / "x.json", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="expected a place to write to"):
        write_file(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_file(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"

    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor() as reader:
        content = reader.submit((tmp_path / "pipe").read_bytes)
        write_file(tmp_path / "pipe", b"through")
        assert content.result(timeout=10) == b"through"
    assert (tmp_path / "pipe").is_fifo()
