"""YAML files of people: values, or one line."""

import pytest

from bodypose_tools.data.skeletons import ConfigError
from bodypose_tools.data.yaml_files import read_yaml


def test_json_is_yaml_too(tmp_path):
    (tmp_path / "spec.json").write_text('{"a": [1, 2.5, null]}')

    assert read_yaml(tmp_path / "spec.json") == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("text", ["a: b: c", "[" * 2000, "x: &x [*x]", "\x00"])
def test_what_is_no_yaml_is_one_line(tmp_path, text):
    (tmp_path / "spec.yaml").write_text(text)

    with pytest.raises(ConfigError, match=r"spec\.yaml: expected YAML") as error:
        read_yaml(tmp_path / "spec.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["a: 1\nb: {c: 2}\na: 3\n", "b:\n  a: 1\n  c: 2\n  'a': 1\n", '[{"a": 1, "a": 2}]']
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text):
    (tmp_path / "spec.yaml").write_text(text)

    with pytest.raises(ConfigError, match=r"expected YAML, got the key 'a' twice, in lines 1|2"):
        read_yaml(tmp_path / "spec.yaml")


def test_the_same_key_in_two_places_is_none_twice(tmp_path):
    text = "x: &x {a: 1}\ny: &y {b: 2}\nz:\n  <<: *x\n  <<: *y\nw: *x\n"
    (tmp_path / "spec.yaml").write_text(text)

    read = read_yaml(tmp_path / "spec.yaml")
    assert read["w"] == {"a": 1}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="got nothing there"):
        read_yaml(tmp_path / "none.yaml")
