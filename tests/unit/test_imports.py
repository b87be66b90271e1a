"""Who may import whom: changing the architecture means changing these tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Package -> its folder. A folder directly in a package is a room; a file there stands for itself.
PLACES = {
    "pose_runtime": ROOT / "pose_runtime",
    "bodypose_client": ROOT / "client/bodypose_client",
    "bodypose_loadtest": ROOT / "loadtest/bodypose_loadtest",
    "bodypose_tools": ROOT / "tools/bodypose_tools",
}

# Package, room or file -> the other packages that it may import besides the standard library; the
# longest match counts. A package that may not name itself uses relative imports only: build-repo
# makes copies of it.
MAY_IMPORT_PACKAGES = {
    "pose_runtime": "numpy",
    "pose_runtime.image_headers": "numpy simplejpeg",
    "pose_runtime.images": "numpy cv2 simplejpeg",
    "pose_runtime.openvino_network": "openvino",
    "pose_runtime.cuda_network": "numpy torch",
    "pose_runtime.onnx_in_torch": "numpy onnx torch",
    "pose_runtime.letterbox_in_torch": "torch",
    "pose_runtime.card_pixels": "numpy torch",
    "bodypose_client": "bodypose_client pose_runtime numpy aiohttp cv2 grpc google pycocotools rich"
    " simplejpeg supervision tritonclient typer",
    "bodypose_client.commands.evaluate": "bodypose_client bodypose_tools pose_runtime typer",
    "bodypose_client.video.files": "bodypose_client numpy av cv2 pose_runtime",
    "bodypose_loadtest": "bodypose_loadtest bodypose_client pose_runtime numpy cv2 google"
    " matplotlib psutil tritonclient typer grpc",
    "bodypose_loadtest.result": "bodypose_loadtest bodypose_client bodypose_tools",
    "bodypose_loadtest.generator": "bodypose_loadtest bodypose_client numpy gevent geventhttpclient"
    " grpc locust tritonclient",
    "bodypose_loadtest.locustfile": "bodypose_loadtest gevent locust",
    "bodypose_tools": "bodypose_tools bodypose_client pose_runtime numpy cv2 google h5py jax keras"
    " matplotlib onnx onnxruntime openvino pydantic rich simplejpeg skimage tensorflow tf2onnx"
    " tritonclient typer yaml",
    "bodypose_tools.server": "bodypose_tools bodypose_client pose_runtime numpy grpc tritonclient"
    " typer",
    "bodypose_tools.bulk": "bodypose_tools bodypose_client pose_runtime numpy cv2 pyarrow ray"
    " typer",
    "bodypose_tools.pages": "bodypose_tools bodypose_client bodypose_loadtest pose_runtime rich"
    " typer",
    "bodypose_tools.benchmark": "bodypose_tools bodypose_client pose_runtime numpy cv2 grpc onnx"
    " openvino psutil simplejpeg tritonclient typer google tensorflow tf2onnx torch",
    "bodypose_tools.benchmark.quantiser_runs": "modelopt nncf numpy onnxruntime openvino",
}

# Room of tools -> the rooms of tools that it may import: only ones further down.
MAY_IMPORT = {
    "pages": "files results experiments benchmark pruning deploying repository server",
    "experiments": "files results networks graphs data runtimes evaluation training export pruning",
    "benchmark": "files results networks graphs data pretrained runtimes evaluation"
    " quantisation export repository server",
    "soak": "results repository server",
    "deploying": "files repository server",
    "server": "files runtimes repository",
    "repository": "files graphs engines runtimes",
    "pruning": "files results networks data runtimes evaluation training export",
    "adoption": "files networks graphs data runtimes export",
    "export": "files networks graphs data runtimes engines quantisation evaluation",
    "quantisation": "files results graphs data runtimes evaluation",
    "training": "files results networks data pretrained runtimes evaluation",
    "evaluation": "files results networks data runtimes",
    "bulk": "files runtimes",
    "runtimes": "files results networks graphs engines",
    "engines": "files graphs",
    "pretrained": "files networks",
    "data": "files networks",
    "scenes": "files",
    "graphs": "",
    "networks": "files",
    "results": "files",
    "files": "",
}
# What the rooms of tools take from the client; scoring, progress and files are free for all.
OF_CLIENT = {
    "adoption": "pictures",
    "pages": "commands",
    "data": "image_bytes",
    "soak": "errors pose_client wire",
    "server": "formats image_bytes pictures pose_client",
    "files": "errors",
    "repository": "errors",
    "training": "pictures",
    "evaluation": "formats pictures",
    "bulk": "errors formats image_bytes in_flight pose_client wire",
    "runtimes": "errors in_flight",
}
FREE_OF_CLIENT = "scoring progress files image_check"

# What `tools --help` must not wait for.
HEAVY = {
    "numpy",
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
    "pydantic",
    "pyarrow",
    "ray",
}


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {
        ".".join((package, *file.relative_to(folder).with_suffix("").parts)): file
        for package, folder in PLACES.items()
        for file in sorted(folder.rglob("*.py"))
    }
    return {name.removesuffix(".__init__"): file for name, file in found.items()}


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imported(name: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, wherever in the file it stands."""
    file = modules()[name]
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    yield from imported_by(ast.parse(file.read_text()), package)


def imported_by(tree: ast.Module, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in a file of `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if whole in modules() else base


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, lazily or for types included."""
    return {
        name: {other for _, other in imported(name) if other in modules() and other != name}
        for name in modules()
    }


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of `graph`, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", PLACES)
def test_imports_stay_inside_the_fence(package):
    names = [name for name in modules() if name.split(".")[0] == package]
    assert names  # a fence around nothing holds everything
    strays = set()
    for name in names:
        file, allowed = modules()[name], {*allowed_packages(name).split(), *sys.stdlib_module_names}
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                tops = [node.module.split(".")[0]]
            else:
                continue
            strays |= {f"{name}:{node.lineno} imports {top}" for top in tops if top not in allowed}
    assert not strays


def test_client_and_load_test_take_records_from_tools_and_nothing_else():
    strays = {
        f"{name}:{line} imports {other}"
        for name in modules()
        if name.startswith(("bodypose_client", "bodypose_loadtest"))
        for line, other in imported(name)
        if other.startswith("bodypose_tools")
        and room(other) not in ("bodypose_tools.results", "bodypose_tools.files")
    }
    assert not strays


def allowed_packages(module: str) -> str:
    keys = [k for k in MAY_IMPORT_PACKAGES if f"{module}.".startswith(f"{k}.")]
    return MAY_IMPORT_PACKAGES[max(keys, key=len)]


def test_a_model_of_the_repository_imports_its_own_copies_only():
    allowed = {"triton_python_backend_utils", "numpy", "openvino", *sys.stdlib_module_names}
    files = sorted((ROOT / "model_repository").rglob("model.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed, file
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] in allowed, file


def test_no_files_import_each_other_in_a_circle():
    assert circle(arrows()) == []


def test_no_rooms_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for name, others in arrows().items():
        ours = graph.setdefault(room(name), set())
        ours |= {room(other) for other in others} - {room(name)}
    assert circle(graph) == []


def test_a_circle_would_be_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_every_room_of_tools_has_a_row():
    rooms = {path.parent.name for path in PLACES["bodypose_tools"].glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_rooms_of_tools_import_only_what_their_row_names(name):
    ours = f"bodypose_tools.{name}"
    inside = {*MAY_IMPORT[name].split(), name, "options", "library_messages"}
    of_client = {*OF_CLIENT.get(name, "").split(), *FREE_OF_CLIENT.split()}
    strays = set()
    for module in (m for m in modules() if room(m) == ours):
        for line, other in imported(module):
            package, _, rest = other.partition(".")
            target = rest.split(".")[0]
            if (package == "bodypose_tools" and target not in inside) or (
                package == "bodypose_client" and target not in of_client
            ):
                strays.add(f"{module}:{line} imports {other}")
    assert not strays


def test_scoring_needs_neither_wire_nor_clients():
    ours = [name for name in modules() if room(name) == "bodypose_client.scoring"]
    others = {room(other) for name in ours for other in arrows()[name]}
    assert ours
    assert others <= {"bodypose_client.scoring", "bodypose_client.errors", "pose_runtime.errors",
                      "pose_runtime.poses", "pose_runtime.skeleton"}  # fmt: skip


def test_the_load_generator_stands_behind_a_wall():
    """It runs in a process that gevent has patched, and is started as one, never imported."""
    patched = ("bodypose_loadtest.generator", "bodypose_loadtest.locustfile")
    inside = {name for name in modules() if name.startswith(patched)}
    libraries = {"gevent", "geventhttpclient", "locust"}
    assert len(inside) > 2
    strays = {
        f"{name}:{line} imports {other}"
        for name in set(modules()) - inside
        for line, other in imported(name)
        if other.startswith(patched) or other.split(".")[0] in libraries
    }
    assert not strays


def test_the_command_line_loads_nothing_heavy():
    listing = "import sys, bodypose_tools.cli; print(*{name.split('.')[0] for name in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )

    assert not HEAVY & set(loaded.stdout.split())
