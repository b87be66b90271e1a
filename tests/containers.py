"""A container engine of the tests' own, and a stand-in for Triton's stock image.

The engine is Podman in namespaces of its own, so that its network, mounts and processes end with
it. The stand-in has the Triton of the nvidia-pytriton wheel where the stock image has its own, the
stock image's Python, and OpenVINO, since the wheel has no ONNX Runtime backend. Its programs are
those of this machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from bodypose_tools.server.wheel import find_wheel
from tests.fleet_tools import kept, pip
from tests.pythons import ROOT, python_of

PYTHON = "3.12"  # of Triton's image: deploy/requirements.txt has hashes for it
STAND_IN = "localhost/triton-stand-in:2.51"
MISSING_ENGINE = (
    "needs a container engine: run as root, where cgroup v2 can be mounted, after"
    " `apt-get install podman crun iproute2`"
)
MISSING_PYTHON = f"needs the Python of Triton's image: install {PYTHON}, such as by pyenv"
MISSING_WHEELS = "needs the packages of Triton's image: `pip download` failed"

# crun wants cgroup v2 alone, where this machine may have both.
_MOUNTS = (
    "mount --make-rprivate / && ip link set lo up"
    " && mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
)
_CLONE_NEWNET = 0x40000000  # `man setns`
_CGROUP = "/sys/fs/cgroup/libpod_parent"
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_PROGRAMS = ("bash", "sh", "env", "cat", "grep", "sleep", "id")
_CHANGES = (
    "ENV PATH=/opt/tritonserver/bin:/usr/local/bin:/usr/bin",
    "ENV LD_LIBRARY_PATH=/opt/tritonserver/lib",
    "ENV PIP_NO_INDEX=1",
    "ENV PIP_FIND_LINKS=/wheels",
    'ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]',
)
_STOCK = ("pip", "numpy", "openvino", "openvino-telemetry")


@cache
def can_contain() -> bool:
    """Whether containers can run here."""
    if not all(map(shutil.which, ("podman", "crun", "nsenter", "ip"))):
        return False
    command = [*_NAMESPACES, "sh", "-c", _MOUNTS]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Engine:
    """Podman with a storage, settings and a network of its own.

    inside: prefix of a command that runs beside the containers, in their network.
    program: Podman's, for a command that runs there.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self.inside = ["nsenter", f"--target={pid}", "--mount", "--net", "--pid"]
        self.program = folder / "bin" / "podman"
        self._network = Path(f"/proc/{pid}/ns/net")

    def ask(self, *words: object, seconds: float = 120) -> str:
        """What `podman WORDS` prints."""
        done = subprocess.run(
            [*self.inside, self.program, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    @contextmanager
    def network(self) -> Iterator[None]:
        """Connections of this thread, and of threads that it starts, are made there."""
        with Path("/proc/thread-self/ns/net").open() as ours, self._network.open() as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())


def _enter(namespace: int) -> None:
    assert ctypes.CDLL(None).setns(namespace, _CLONE_NEWNET) == 0


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """An engine whose files are in `folder`; at the end no process or mount of it is left.

    Podman takes no runroot of more than 50 characters, so that one has a folder of its own.
    """
    with TemporaryDirectory(prefix="engine", dir="/tmp", ignore_cleanup_errors=True) as short:
        yield from _running(folder, Path(short))


def _running(folder: Path, runroot: Path) -> Iterator[Engine]:
    _write_settings(folder, runroot)
    # The first process ends when this one is gone, and reaps those of containers that ended.
    script = f"{_MOUNTS} && echo && while read -t 1 || [ $? -gt 128 ]; do :; done"
    command, pipe = [*_NAMESPACES, "bash", "-c", script], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            (first,) = psutil.Process(holder.pid).children()
            started = Engine(folder, first.pid)
            yield started
            started.ask("pod", "rm", "--force", "--all")
            started.ask("rm", "--force", "--all")
            empty = [*started.inside, "find", _CGROUP, "-depth", "-type", "d", "-delete"]
            subprocess.run(empty, check=False, capture_output=True)
        finally:
            holder.kill()


def _write_settings(folder: Path, runroot: Path) -> None:
    for name in ("bin", "networks"):
        (folder / name).mkdir()
    processes = min(4096, resource.getrlimit(resource.RLIMIT_NPROC)[1])
    (folder / "containers.conf").write_text(
        "[containers]\n"
        f'default_ulimits = ["nofile=1024:1024", "nproc={processes}:{processes}"]\n'
        "pids_limit = 0\n"
        "[engine]\n"
        'runtime = "crun"\n'
        'cgroup_manager = "cgroupfs"\n'
        'events_logger = "none"\n'
        f'tmp_dir = "{folder / "tmp"}"\n'
        "[engine.runtimes]\n"
        f'crun = ["{folder / "bin" / "crun"}"]\n'
        "[network]\n"
        f'network_config_dir = "{folder / "networks"}"\n'
    )
    # Limits of a cgroup need rights that a container which runs tests may not have.
    _write_program(folder / "bin" / "crun", "exec crun --cgroup-manager=disabled")
    _write_program(
        folder / "bin" / "podman",
        f"export CONTAINERS_CONF={folder / 'containers.conf'}\n"
        "export BUILDAH_ISOLATION=chroot DISABLE_HC_SYSTEMD=true\n"
        f"exec podman --root={folder / 'storage'} --runroot={runroot}"
        " --storage-driver=overlay",
    )


def _write_program(path: Path, script: str) -> None:
    path.write_text(f'#!/bin/sh\n{script} "$@"\n')
    path.chmod(0o755)


def make_stand_in(engine: Engine, folder: Path) -> None:
    """Give the engine the image `STAND_IN`, made in `folder`."""
    python, wheels, root = python_of(PYTHON), found_wheels(), folder / "root"
    if python is None:
        pytest.skip(MISSING_PYTHON)
    if wheels is None:
        pytest.skip(MISSING_WHEELS)
    _lay_out(root, python, wheels)
    archive = folder / "root.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True, timeout=100)
    changes = [word for each in _CHANGES for word in ("--change", each)]
    engine.ask("import", *changes, archive, STAND_IN)
    archive.unlink()
    shutil.rmtree(root)


@cache
def found_wheels() -> Path | None:
    """Wheels of what the stock image has, and of what the Dockerfile installs."""
    return kept(f"wheels-{PYTHON}", _fetch_wheels)


def _fetch_wheels(folder: Path) -> None:
    wheels = ("--python-version", PYTHON, "--only-binary", ":all:", "--no-deps")
    pins = ("-c", ROOT / "constraints.txt")
    pip("download", *wheels, *pins, "--dest", folder / "stock", *_STOCK)
    requirements = ROOT / "deploy" / "requirements.txt"
    hashed = ("--require-hashes", "-r", requirements)
    pip("download", *wheels, "--dest", folder / "ours", *hashed)


def _lay_out(root: Path, python: str, wheels: Path) -> None:
    """The files of the stand-in."""
    for name in ("usr/bin", "usr/lib", "usr/lib64", "usr/local/bin", "etc", "tmp", "proc", "sys"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    for name in _PROGRAMS:
        shutil.copy(shutil.which(name), root / "usr" / "bin" / name)
    _lay_out_python(root, python, wheels)
    _lay_out_triton(root)
    _copy_libraries(root)


def _lay_out_python(root: Path, python: str, wheels: Path) -> None:
    asked = "import json, sys, sysconfig; print(json.dumps([sys.executable, *map("
    asked += "sysconfig.get_config_var, ['LIBDIR', 'INSTSONAME']), sysconfig.get_path('stdlib')]))"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    program, folder, library, modules = json.loads(said.stdout)
    left_out = ("test", "__pycache__", "site-packages", "dist-packages", "config-*", "ensurepip")
    shutil.copytree(
        modules,
        root / "usr" / "local" / "lib" / f"python{PYTHON}",
        ignore=shutil.ignore_patterns(*left_out),
    )
    binaries = root / "usr" / "local" / "bin"
    shutil.copy(Path(program).resolve(), binaries / "python3")
    shutil.copy(Path(folder) / library, root / "usr" / "lib")
    packages = root / "usr" / "local" / "lib" / f"python{PYTHON}" / "site-packages"
    given = ("--no-index", "--no-deps", "--find-links", wheels / "stock", "--target", packages)
    wanted = ("--python-version", PYTHON, "--only-binary", ":all:", "--no-compile")
    pip("install", *given, *wanted, *_STOCK)
    _write_program(binaries / "pip", "exec python3 -m pip")
    shutil.copytree(wheels / "ours", root / "wheels")


def _lay_out_triton(root: Path) -> None:
    wheel, triton = find_wheel(), root / "opt" / "tritonserver"
    shutil.copytree(wheel / "bin", triton / "bin")
    shutil.copytree(wheel / "backends", triton / "backends")
    for stub in (wheel / "python_backend_stubs" / PYTHON).iterdir():
        shutil.copy(stub, triton / "backends" / "python")
    shutil.copytree(wheel.parents[1] / "nvidia_pytriton.libs", triton / "lib")
    (root / "opt" / "nvidia").mkdir()
    _write_program(root / "opt" / "nvidia" / "nvidia_entrypoint.sh", "exec")


def _copy_libraries(root: Path) -> None:
    """Shared libraries of this machine that the root's programs and modules name."""
    binaries = [path for path in root.rglob("*") if path.is_file() and _is_elf(path)]
    own = ":".join(map(str, (root / "opt" / "tritonserver" / "lib", root / "usr" / "lib")))
    said = subprocess.run(
        ["ldd", *map(str, binaries)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": own},
    )
    for name, path in set(re.findall(r"(\S+)(?: => (\S+))? \(0x", said.stdout)):
        found = Path(path or name)
        if not found.is_absolute() or found.is_relative_to(root):
            continue
        folder = "lib64" if name.startswith("/lib64/") else "lib"
        shutil.copy(found.resolve(), root / "usr" / folder / Path(name).name)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
