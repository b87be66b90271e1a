"""`prove.py` on Podman, before a stand-in for Triton's image; `tests.containers` says which.

python -m tests.benchmarks.container -a ANNOTATIONS -i IMAGES --out docs/results/container.json
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.values import Deployment
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from tests.containers import STAND_IN, Engine, make_stand_in, running_engine


def write_container_files(folder: Path) -> Path:
    """The files that `tools deploy-files` writes for a container, in `folder`."""
    build_repository(SHIPPED_MODEL, folder / "for_a_container", targets.cpu())
    write_deploy_files(folder / "for_a_container", folder / "deploy", Deployment())
    return folder / "deploy"


def prove(
    engine: Engine, deploy: Path, repository: Path, annotations: Path, images: Path, out: Path
) -> subprocess.CompletedProcess[str]:
    """Run `prove.py` of `deploy` beside the engine's containers; `out` is its record."""
    return subprocess.run(
        [
            *(*engine.inside, sys.executable, deploy / "prove.py", repository),
            *("-a", annotations.absolute(), "-i", images.absolute(), "-o", out.absolute()),
            *("--base", STAND_IN, "--docker", engine.program),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-a", "--annotations", type=Path, required=True)
    parser.add_argument("-i", "--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploy = write_container_files(folder)
        build_repository(SHIPPED_MODEL, folder / "model_repository")
        (folder / "engine").mkdir()
        with running_engine(folder / "engine") as engine:
            make_stand_in(engine, folder / "stand_in")
            done = prove(
                *(engine, deploy, folder / "model_repository"),
                *(options.annotations, options.images, options.out),
            )
    sys.stdout.write(done.stdout)
    sys.exit(done.stderr or done.returncode)


if __name__ == "__main__":
    main()
