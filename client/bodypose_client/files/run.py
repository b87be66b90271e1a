"""One run over many images: what is done already, and what is written for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodypose_client.pose_client import PoseClient
from bodypose_client.results import ImagePoses
from pose_runtime.errors import ImageError
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .image_sources import ImageFile
from .inference import Found, Refused, one_line
from .output_file import write_file
from .picture_file import picture_paths, write_picture
from .result_text import Format, result_file_name, result_text

Pixels = NDArray[np.uint8]
Draw = Callable[[Pixels, Poses, Skeleton], Pixels]
INTERRUPTED = 130  # the exit code that shells expect after Ctrl-C


@dataclass(frozen=True, slots=True)
class Job:
    """One image, and the files for its results and its picture, where they are asked for."""

    file: ImageFile
    results: Path | None
    picture: Path | None

    @property
    def is_done(self) -> bool:
        """Files appear whole or not at all, and the results come last."""
        picture_is_there = self.picture is None or self.picture.exists()
        return self.results is not None and self.results.exists() and picture_is_there


def jobs_for(
    files: Sequence[ImageFile], visualize: Path | None, output: Path | None, form: Format
) -> list[Job]:
    """A job for each image.

    Raises:
        OutputPathError: the pictures cannot go to `visualize`.
    """
    shown = [Path(file.name) if file.is_stdin else file.path for file in files]
    pictures = picture_paths(shown, visualize) if visualize else [None] * len(files)
    return [
        Job(file, output / result_file_name(file.name, form) if output else None, picture)
        for file, picture in zip(files, pictures, strict=True)
    ]


@dataclass(slots=True)
class InferRun:
    """Writes what is asked for of each answer, and counts."""

    client: PoseClient
    jobs: Sequence[Job]
    form: Format
    draw: Draw
    min_score: float
    complain: Callable[[str], None]
    finished: int = 0
    refused: int = field(default=0)

    def keep(self, answers: Iterable[Found | Refused]) -> Iterator[tuple[ImageFile, ImagePoses]]:
        """The people of each image, once its files are written; `complain` gets each refusal.

        Args:
            answers: to the jobs, in their order; fewer when the run is stopped.
        """
        for job, answer in zip(self.jobs, answers, strict=False):
            problem = answer.problem if isinstance(answer, Refused) else self._write(job, answer)
            if problem:
                self.refused += 1
                self.complain(problem)
            elif isinstance(answer, Found):
                self.finished += 1
                yield answer.file, answer.poses.above(self.min_score)

    def _write(self, job: Job, found: Found) -> str | None:
        """Write the image's files; returns what is wrong with the image, if anything is."""
        poses = found.poses.above(self.min_score)
        if job.picture:
            from pose_runtime.images import decode_image  # OpenCV, of the extra `draw`

            try:
                pixels = decode_image(found.data, self.client.spec.limits)
            except ImageError as error:  # the server accepts more than this client can read
                return one_line(found.file, error)
            write_picture(job.picture, self.draw(pixels, poses, self.client.skeleton))
        if job.results:
            text = "".join(result_text(self.form, self.client.skeleton, [poses]))
            write_file(job.results, text.encode())
        return None
