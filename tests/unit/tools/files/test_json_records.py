import pytest

from bodypose_tools.files.json_records import RecordError, read_record, write_record


def test_a_record_there_and_back(tmp_path):
    write_record(tmp_path / "record.json", {"schema": "x/1", "values": [0.1, None]})

    assert read_record(tmp_path / "record.json", {"schema": str}) == {
        "schema": "x/1",
        "values": [0.1, None],
    }
    assert (tmp_path / "record.json").read_text().endswith("}\n")


def test_a_missing_key_is_named(tmp_path):
    write_record(tmp_path / "record.json", {"schema": 1})

    with pytest.raises(RecordError, match=r"got none that fits in schema"):
        read_record(tmp_path / "record.json", {"schema": str})


def test_a_huge_record_is_not_read(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(5 * 2**20)

    with pytest.raises(RecordError, match="of at most 4194304 bytes"):
        read_record(path, {})
