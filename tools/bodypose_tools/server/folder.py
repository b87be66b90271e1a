"""The folder that the embedded server follows: copies of the models, or links to them.

One more model in it makes the server report itself as not ready while it still answers; Triton has
no other way.
"""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

from .settings import Updates

NEVER_READY = "bodypose_stopping"


def prepare(folder: Path, repository: Path, updates: Updates) -> None:
    """Fill `folder` with the models of `repository`.

    Args:
        folder: to create, for one server.
        repository: folder of `tools build-repo`.
        updates: NONE: copies, which do not change; POLL: links, which follow the repository. Both
            get Python's caches before Triton looks.
    """
    folder.mkdir()
    for config in sorted(repository.glob("*/config.pbtxt")):
        place = folder / config.parent.name
        if updates is Updates.POLL:
            place.symlink_to(config.parent.resolve())
        else:
            shutil.copytree(config.parent, place, ignore=shutil.ignore_patterns("__pycache__"))
        # Triton's stub writes them when a model starts, whatever PYTHONDONTWRITEBYTECODE says, and
        # Triton takes that for a change: it would load every model twice.
        compileall.compile_dir(place, quiet=2)


def turn_unready(folder: Path) -> None:
    """Make the server report itself as not ready within a second; it still answers requests.

    With strict readiness (the default) a server is ready when every model in its folder is. The
    model that is added here never gets ready, because its backend does not exist.
    """
    written = folder.with_name(NEVER_READY)
    (written / "1").mkdir(parents=True)
    (written / "config.pbtxt").write_text(
        f"""name: "{NEVER_READY}"
backend: "{NEVER_READY}"
input {{ name: "none" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "none" data_type: TYPE_FP32 dims: 1 }}
"""
    )
    written.rename(folder / NEVER_READY)  # at once, so that Triton sees a whole one
