"""Who may import whom: changing the architecture means changing this table."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Folder or file -> what it may import besides the standard library; the longest match counts.
# A package that may not name itself uses relative imports only: build-repo makes copies of it.
MAY_IMPORT = {
    "pose_runtime": "numpy",
    "pose_runtime/image_headers.py": "numpy simplejpeg",
    "pose_runtime/images.py": "numpy cv2 simplejpeg",
    "model_repository": "triton_python_backend_utils numpy",
    "model_repository/bodypose_network": "triton_python_backend_utils numpy openvino",
    "client": "client pose_runtime numpy aiohttp cv2 grpc google pycocotools rich simplejpeg"
    " skimage supervision tritonclient typer",
    "client/video_files.py": "numpy av cv2 pose_runtime",
    "loadtest": "loadtest client pose_runtime numpy cv2 gevent geventhttpclient google grpc locust"
    " matplotlib psutil tritonclient typer",
    "tools": "tools client pose_runtime numpy cv2 google h5py jax keras matplotlib onnx onnxruntime"
    " openvino pycocotools pydantic rich simplejpeg skimage tensorflow tensorrt tf2onnx"
    " tritonclient typer yaml",
    "tools/benchmark": "tools client pose_runtime numpy cv2 grpc onnxruntime openvino matplotlib"
    " psutil simplejpeg skimage tritonclient",
}
# What `tools --help` must not wait for.
HEAVY = {
    "keras",
    "tensorflow",
    "jax",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "tritonclient",
    "grpc",
    "pycocotools",
}


@pytest.mark.parametrize("package", sorted({key.split("/")[0] for key in MAY_IMPORT}))
def test_imports_stay_inside_the_fence(package):
    strays = {
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sorted((ROOT / package).rglob("*.py"))
        for line, name in imported(file)
        if name not in {*allowed(file).split(), *sys.stdlib_module_names}
    }
    assert not strays


def allowed(file: Path) -> str:
    name = file.relative_to(ROOT).as_posix()
    return MAY_IMPORT[max((key for key in MAY_IMPORT if name.startswith(key)), key=len)]


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level name of every absolute import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.split(".")[0]


def test_the_command_line_loads_nothing_heavy():
    listing = "import sys, tools.cli; print(*{name.split('.')[0] for name in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )

    assert not HEAVY & set(loaded.stdout.split())
