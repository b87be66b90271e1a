import json
import os
import threading

import pytest

from bodypose_client.errors import FileError
from bodypose_client.files.image_sources import NoImages, image_files
from pose_runtime.paths import ForeignPath


def names(argument):
    return [image.name for image in image_files([str(argument)])]


def test_every_name_of_jpeg_is_looked_for(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.jfif", "d.jpe", "e.txt"):
        (tmp_path / name).touch()

    assert names(tmp_path) == ["a.jpg", "b.JPEG", "c.jfif", "d.jpe"]


def test_what_macos_leaves_beside_an_image_is_no_image(tmp_path):
    for name in ("a.jpg", "._a.jpg", "__MACOSX/._a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert names(tmp_path) == names(tmp_path / "*.jpg") == ["a.jpg"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '"a.jpg"', "[1]", "[]", '["b.json"]'])
def test_a_list_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "list.json").write_text(text)

    with pytest.raises(NoImages, match="expected a JSON list of image paths") as caught:
        image_files([str(tmp_path / "list.json")])
    assert "\n" not in str(caught.value)


def test_a_list_names_files_in_its_own_folder(tmp_path):
    (tmp_path / "given").mkdir()
    for name in ("given/a.jpg", "given/b c.jpg", "secret.jpg"):
        (tmp_path / name).touch()
    written = tmp_path / "given" / "list.json"
    written.write_text(json.dumps(["b c.jpg", str(tmp_path / "given" / "a.jpg")]))
    assert names(written) == ["b c.jpg", "a.jpg"]

    (tmp_path / "given" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    for place in ("../secret.jpg", str(tmp_path / "secret.jpg"), "/etc/passwd", "link.jpg"):
        written.write_text(json.dumps(["a.jpg", place]))
        with pytest.raises(ForeignPath, match="expected a path inside"):
            image_files([str(written)])


def test_a_pipe_without_a_writer_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (pipe,) = image_files([str(tmp_path / "pipe.jpg")])
    problems = []

    def read():
        with pytest.raises(FileError) as caught:
            pipe.read()
        problems.append(str(caught.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)

    assert problems
    assert problems[0].endswith("expected an image file, got 'a pipe; `-` reads stdin'")
