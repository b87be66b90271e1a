"""The wheel outside the checkout: beside another wheel, in a folder whose names are taken.

`tools/`, `client.py`, `loadtest/` and `tests/` are names that a user's folder may have, and that
tf2onnx, for one, ships at the top level.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bodypose_client.pictures.examples import EXAMPLES
from tests.processes import free_ports, until_ready
from tests.pythons import NEWEST, OLDEST, ROOT, python_of

MAX_WHEEL_BYTES = 45e6
MAX_BASE_MB = 160
OURS = {"bodypose_tools", "bodypose_client", "bodypose_loadtest", "pose_runtime"}
TAKEN = ("tools/__init__.py", "client/__init__.py", "loadtest/__init__.py", "tests/__init__.py")
TRAP = "raise ImportError('this file belongs to somebody else')\n"
# What every environment has, and what Python writes itself.
NOT_COUNTED = {"pip", "setuptools", "_distutils_hack", "pkg_resources", "__pycache__"}

PROGRAM = """
import sys
from pathlib import Path
from bodypose_client import ImagePoses, PoseClient, PoseError, __version__

def surest(url: str, photo: Path) -> float:
    with PoseClient(url) as client:
        poses: ImagePoses = client.infer(photo)
        joints: tuple[str, ...] = client.skeleton.joints
        assert poses.keypoints.shape[1:] == (len(joints), 3)
        return float(poses.scores[0])

try:
    print(__version__, surest(sys.argv[1], Path(sys.argv[2])) > 0.3)
except PoseError as error:
    print(error)
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel in it, and a folder to stand in."""

    folder: Path
    here: Path

    def command(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    @property
    def variables(self) -> dict[str, str]:
        """Nothing of the checkout: PYTHONPATH least of all."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return {**kept, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "NO_COLOR": "1"}

    def ended(self, *command: object) -> subprocess.CompletedProcess[str]:
        name, *arguments = map(str, command)
        return subprocess.run(
            [self.command(name), *arguments],
            cwd=self.here,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *command: object) -> str:
        ended = self.ended(*command)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    def problem(self, *command: object) -> str:
        """The one line of a command that fails."""
        ended = self.ended(*command)
        assert ended.returncode == 1, ended.stderr + ended.stdout
        (line,) = ended.stderr.splitlines()
        return line

    def has(self, package: str) -> bool:
        find = f"import importlib.util as u, sys; sys.exit(u.find_spec({package!r}) is None)"
        return self.ended("python", "-I", "-c", find).returncode == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the source distribution, which therefore holds all that the wheel needs."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr + built.stdout
    (wheel,) = out.glob("*.whl")
    assert len(list(out.glob("*.tar.gz"))) == 1
    return wheel


@pytest.fixture(scope="module")
def somebody_elses_wheel(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("other") / "somebody_else-1.0-py3-none-any.whl"
    info = "somebody_else-1.0.dist-info"
    files = {
        **dict.fromkeys(TAKEN, TRAP),
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: somebody-else\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A user's folder, with modules of the names that were ours once."""
    folder = tmp_path_factory.mktemp("project")
    for name in (*TAKEN[:1], "client.py", *TAKEN[2:]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(TRAP)
    return folder


def pip_install(environment: Environment, *arguments: object) -> None:
    """This Python's pip, at work in another environment, which therefore needs none."""
    pip = [sys.executable, "-m", "pip", "--python", environment.command("python")]
    options = ["--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "install", *options, *map(str, arguments)],
        env=environment.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def install(wheel: Path, somebody_elses_wheel: Path, here: Path, tmp_path_factory):
    def into(python: str, *extras: str) -> Environment:
        environment = Environment(tmp_path_factory.mktemp("-".join(extras) or "base") / "env", here)
        venv = [python, "-m", "venv", "--without-pip", environment.folder]
        subprocess.run(venv, check=True)
        target = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
        options = ["--no-compile", "-c", ROOT / "constraints.txt"]
        pip_install(environment, *options, target, somebody_elses_wheel)
        return environment

    return into


@pytest.fixture(scope="module", params=[OLDEST, NEWEST])
def base(install, request) -> Environment:
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"needs Python {request.param}")
    return install(python)


@pytest.fixture(scope="module")
def embedded(install) -> Environment:
    return install(sys.executable, "embedded")


@pytest.fixture(scope="module")
def photo(here: Path) -> Path:
    from bodypose_tools.data.photos import photo_jpeg

    (here / "photo.jpg").write_bytes(photo_jpeg(640, 480))
    return here / "photo.jpg"


@pytest.fixture(scope="module")
def url(embedded: Environment) -> Iterator[str]:
    """Of a server that `tools build-repo` and `tools serve` of the wheel have made."""
    embedded.run("tools", "build-repo")
    embedded.run("tools", "check-repo")
    command = [embedded.command("tools"), "serve", *free_ports()]
    with subprocess.Popen(
        command, cwd=embedded.here, env=embedded.variables, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            address = re.search(r"^gRPC +(\S+)", until_ready(process), re.M)[1]
            yield f"grpc://{address}/bodypose"
        finally:
            process.terminate()


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        lines = archive.read(record).decode().splitlines()
    return [line.rsplit(",", 2)[0] for line in lines]


def test_nothing_in_the_wheel_has_a_name_that_is_not_ours(wheel):
    names = names_in(wheel)
    tops = {name.partition("/")[0] for name in names}
    (info,) = tops - OURS
    assert re.fullmatch(r"bodypose_triton-[\d.]+\.dist-info", info)
    assert not [name for name in names if "test" in Path(name).name and name.endswith(".py")]


def test_the_wheel_holds_what_its_users_start_from(wheel):
    names = set(names_in(wheel))

    def shipped(folder: Path, inside: str) -> set[str]:
        files = (path for path in folder.rglob("*") if path.is_file())
        wanted = (path for path in files if "__pycache__" not in path.parts)
        return {f"bodypose_tools/{inside}/{path.relative_to(folder)}" for path in wanted}

    models = shipped(ROOT / "tools/bodypose_tools/models", "models")
    assert {Path(name).suffix for name in models} >= {".keras", ".onnx", ".json"}
    assert models <= names
    assert shipped(ROOT / "specs", "specs") <= names
    assert shipped(ROOT / "deploy", "deploy") <= names
    assert shipped(ROOT / "model_repository", "model_repository") <= names
    assert {f"{package}/py.typed" for package in OURS} <= names
    examples = {f"bodypose_client/pictures/examples/{path.name}" for path in EXAMPLES.values()}
    assert examples <= names
    assert wheel.stat().st_size <= MAX_WHEEL_BYTES


def test_the_base_install_is_small(base):
    (packages,) = base.folder.glob("lib/python*/site-packages")
    ours = OURS | {"somebody_else"}
    size = sum(
        path.stat().st_blocks * 512
        for path in packages.rglob("*")
        if not path.is_symlink()
        and not NOT_COUNTED & {p.split("-")[0] for p in path.relative_to(packages).parts}
        and "models" not in path.relative_to(packages).parts[:2]
    )
    assert all((packages / name).is_dir() for name in ours - {"somebody_else"})
    assert 50e6 < size <= MAX_BASE_MB * 1e6, f"{size / 1e6:.1f} MB"


@pytest.mark.parametrize("command", ["tools", "bodypose", "pose-client", "pose-loadtest"])
def test_every_command_is_there_and_says_version_and_help(base, command):
    version = base.run("python", "-c", "import bodypose_client as c; print(c.__version__)").strip()
    assert base.run(command, "--version") == f"bodypose-triton {version}\n"
    assert "Usage" in base.run(command, "--help")


@pytest.mark.triton
def test_the_base_install_finds_people(base, url, photo):
    said = base.run("pose-client", "infer", "photo.jpg", "--url", url)
    assert re.search(r"photo\.jpg: [12] (person|people)", said)
    (base.here / "program.py").write_text(PROGRAM)
    assert base.run("python", "program.py", url, photo).endswith("True\n")
    pixels = "import sys, numpy as n; from bodypose_client import PoseClient as C;"
    array = "print(len(C(sys.argv[1]).infer(n.zeros((48, 64, 3), n.uint8))))"
    assert base.run("python", "-c", pixels + array, url) == "0\n"


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("pose-client infer photo.jpg --visualize out.jpg", "cv2", "draw"),
        ("pose-client evaluate -a photo.jpg -i .", "pycocotools", "evaluate"),
        ("pose-client video walk.mp4", "av", "video"),
        ("pose-loadtest run --scenario steady --users 1", None, "loadtest"),
        ("tools demo", None, "embedded"),
        ("tools train -e spec.yaml -r runs", "yaml", "train"),
        ("tools export -m a.keras -o b.onnx -d 288,384,3", None, "train,export"),
        ("tools build-repo", "onnx", "embedded"),
    ],
)
def test_what_the_base_leaves_out_is_one_line_that_works(base, photo, command, package, extra):
    line = base.problem(*command.split())
    assert line.startswith(f"error: expected the package {package or ''}")
    assert line.endswith(f'; run `pip install "bodypose-triton[{extra}]"`')


def test_a_typed_program_passes_mypy_strict(base, tmp_path):
    pytest.importorskip("mypy", reason="needs mypy: `make test-long` installs it")
    (tmp_path / "program.py").write_text(PROGRAM)
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")),
            *("--python-executable", base.command("python"), "program.py"),
        ],
        cwd=tmp_path,
        env=base.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.triton
def test_serving_and_the_demo_need_no_checkout_and_no_tensorflow(embedded, url, photo):
    assert not embedded.has("tensorflow")
    assert embedded.has("pytriton")
    embedded.run("pose-client", "infer", "photo.jpg", "--url", url, "--visualize", "found.jpg")
    assert (embedded.here / "found.jpg").stat().st_size > 10_000
    assert "demo.png" in embedded.run("tools", "demo", "--output", "demo.png")
    assert (embedded.here / "demo.png").stat().st_size > 100_000


def test_specs_and_models_to_start_from_come_out_of_the_wheel(embedded):
    embedded.run("tools", "starter-files", "-o", "start")
    start = embedded.here / "start"
    assert (start / "specs/bodypose-s.yaml").read_bytes() == (
        ROOT / "specs/bodypose-s.yaml"
    ).read_bytes()
    model = start / "models/bodypose-s.keras"
    line = embedded.problem("tools", "prune", "-m", model, "-o", "pruned.keras")
    assert line.endswith('; run `pip install "bodypose-triton[train]"`')


@pytest.mark.triton
def test_a_load_test_runs_beside_anything(install, url, here):
    loadtest = install(sys.executable, "loadtest")
    load = ("--scenario", "steady", "--users", 1, "--duration", "2s", "--warm-up", "1s")
    ended = loadtest.ended(
        "pose-loadtest", "run", *load, "--repeats", 1, "--url", url, "-o", "report"
    )
    # 4: the machine was too busy to judge the server.
    assert ended.returncode in (0, 4), ended.stderr + ended.stdout
    (report,) = (here / "report").glob("*.json")
    assert json.loads(report.read_text())["steps"]
    needs_server = loadtest.problem("pose-loadtest", "run", *load, "-o", "report2")
    assert "bodypose-triton[" in needs_server


@pytest.mark.triton
@pytest.mark.parametrize("base", [NEWEST], indirect=True)
def test_where_numpy_1_26_is_missing_the_server_says_so_in_one_line(base, wheel, url, tmp_path):
    report = tmp_path / "report.json"
    options = ["--dry-run", "--only-binary", "numpy", "--report", report]
    pip_install(base, *options, f"{wheel}[embedded]")
    found = {item["metadata"]["name"] for item in json.loads(report.read_text())["install"]}
    assert "onnxruntime" in found
    assert "nvidia-pytriton" not in found
    line = base.problem("tools", "serve", *free_ports())
    assert f"expected Python 3.11 or 3.12 (its wheel needs numpy 1.26), got {NEWEST}" in line


def test_the_other_wheel_and_folder_would_be_noticed(base):
    for place, name in (("-I", "tools"), ("-I", "client"), ("-c", "client")):
        options = ["-I", "-c"] if place == "-I" else ["-c"]
        ended = base.ended("python", *options, f"import {name}")
        assert "belongs to somebody else" in ended.stderr
    assert importlib.util.find_spec("bodypose_client")
