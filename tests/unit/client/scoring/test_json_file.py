import os

import pytest

from bodypose_client.errors import AnnotationError, FileError
from bodypose_client.scoring.json_file import read_json


def test_json_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null]}')

    assert read_json(tmp_path / "a.json", "a file") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        (b"[" * 500_000, "nested too deep"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"9" * 5000, "expected JSON"),
        (b"[" + b" " * 1000 + b"]", "of at most 500 bytes, got 1002"),
    ],
)
def test_what_is_none_is_one_line(tmp_path, data, words):
    (tmp_path / "a.json").write_bytes(data)

    with pytest.raises(AnnotationError, match=words) as caught:
        read_json(tmp_path / "a.json", "a file", 500 if b" " in data else 10**6)

    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


def test_a_device_a_pipe_a_folder_and_an_absent_file_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(FileError, match="expected a file, got"):
            read_json(tmp_path / path, "a file")


def test_the_most_bytes_are_read_and_one_more_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    assert read_json(path, "a file", 6) == [1, 2]
    with pytest.raises(AnnotationError, match="of at most 5 bytes, got 6"):
        read_json(path, "a file", 5)
    with path.open("r+b") as file:
        file.truncate(2**31 + 1)  # of which nothing is stored
    with pytest.raises(AnnotationError, match="of at most 2147483648 bytes, got 2147483649"):
        read_json(path, "a file")


def test_infinity_is_let_through_on_request(tmp_path):
    (tmp_path / "a.json").write_text("[Infinity, -Infinity]")

    assert read_json(tmp_path / "a.json", "a file", nan=True) == [float("inf"), -float("inf")]
