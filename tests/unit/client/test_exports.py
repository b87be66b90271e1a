import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import bodypose_client
import bodypose_client.errors
from pose_runtime.errors import PoseError

SOURCE = Path(bodypose_client.__file__)
PAGE = Path(__file__).parents[3] / "docs" / "client.md"


def typed():
    """Names that a type checker sees."""
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    return [alias.name for node in block.body for alias in node.names]


def test_a_type_checker_sees_the_same_names_as_a_program():
    assert sorted(typed()) == sorted(bodypose_client.__all__) == sorted(bodypose_client._HOME)
    assert set(bodypose_client.__all__) <= set(dir(bodypose_client))


@pytest.mark.parametrize("name", bodypose_client.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(bodypose_client, name) is not None


def test_every_error_of_the_client_is_exported():
    errors = [
        name
        for name, error in vars(bodypose_client.errors).items()
        if isinstance(error, type) and issubclass(error, PoseError)
    ]

    assert set(errors) <= set(bodypose_client.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = bodypose_client.nothing_of_ours


def test_a_client_waits_for_nothing_heavy():
    program = (
        "import sys; from bodypose_client import AsyncPoseClient, PoseClient, RequestRejected;"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert "bodypose_client" in loaded
    assert not {"cv2", "pycocotools", "simplejpeg", "rich", "typer", "grpc", "av"} & set(loaded)


def test_the_page_imports_from_the_package_only():
    lines = [line for line in PAGE.read_text().splitlines() if "import " in line]
    ours = [line for line in lines if "bodypose_" in line or "pose_runtime" in line]

    assert ours
    assert all(line.startswith("from bodypose_client import ") for line in ours)


def _public():
    """Exported classes and functions, and what a class of ours shows of itself."""
    for name in bodypose_client.__all__:
        value = getattr(bodypose_client, name)
        if inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value):
            yield name, value
            for member, each in vars(value).items():
                shown = isinstance(each, property | classmethod) or inspect.isfunction(each)
                if shown and not member.startswith("_"):
                    yield f"{name}.{member}", each


@pytest.mark.parametrize(("name", "value"), [pytest.param(*each, id=each[0]) for each in _public()])
def test_what_is_exported_has_a_docstring(name, value):
    text = inspect.getdoc(value)
    assert text, name
    assert not text.startswith(f"{name}("), f"{name} has the docstring that dataclass writes"
