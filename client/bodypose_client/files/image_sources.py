"""The inputs of `pose-client infer`: files, folders, patterns, lists and stdin."""

from __future__ import annotations

import glob
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bodypose_client.errors import AnnotationError
from bodypose_client.image_bytes import read_bounded, read_image_file
from bodypose_client.scoring.json_file import read_json
from pose_runtime.errors import PoseError
from pose_runtime.paths import Inside
from pose_runtime.spec import ImageLimits

from .picture_file import SUFFIXES

IMAGE_SUFFIXES = (*SUFFIXES, ".jfif", ".jpe")  # JPEG's rarer names are looked for, too
_APPLE_DOUBLE = "._"  # macOS leaves such a file beside each one; it is no image, whatever its name
STDIN = "-"
_LARGEST_LIST = 64 * 2**20  # bytes


class NoImages(PoseError):
    """A folder or pattern without a single image."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image; `name` tells it from the others of its run and names its results."""

    path: Path
    name: str  # below the folder that was asked for, with forward slashes

    @property
    def is_stdin(self) -> bool:
        return self.path == Path(STDIN)

    def read(self, max_bytes: int = ImageLimits().max_bytes) -> bytes:
        """The file's content.

        Raises:
            FileError: it cannot be read.
            RequestRejected: it is larger than `max_bytes`.
        """
        if self.is_stdin:
            return read_bounded(sys.stdin.buffer, max_bytes)
        return read_image_file(self.path, max_bytes)


def image_files(arguments: Sequence[str]) -> list[ImageFile]:
    """Every image of the arguments, in their order; within a folder or pattern by name.

    Folders are searched through, patterns may hold `**`, and a `.json` file is a list of paths
    inside its own folder. A file that was named itself is taken as it is: whether it is an image is
    the server's to say.

    Raises:
        NoImages: a folder, pattern or list has none.
        ForeignPath: a list names a place outside its folder.
    """
    images: list[ImageFile] = []
    names: set[str] = set()
    for image in (image for argument in arguments for image in _images(argument)):
        images.append(replace(image, name=_unused(image.name, names)))
        names.add(images[-1].name)
    return images


def _images(argument: str) -> list[ImageFile]:
    path = Path(argument)
    if argument == STDIN:
        return [ImageFile(path, "stdin")]
    if path.is_dir():
        return _named(path, argument, [found for found in path.rglob("*") if _is_image(found)])
    if not path.exists() and glob.has_magic(argument):
        found = [Path(name) for name in glob.iglob(argument, recursive=True)]  # noqa: PTH207  absolute ones too
        return _named(_fixed_part(path), argument, [path for path in found if _is_image(path)])
    if path.suffix.lower() == ".json" and path.is_file():
        folder = Inside(path.parent)
        return [image for name in _listed(path) for image in _images(str(folder.path(name)))]
    return [ImageFile(path, path.name)]


def _listed(path: Path) -> list[str]:
    try:
        listed = read_json(path, "a JSON list of image paths", _LARGEST_LIST)
    except AnnotationError as error:
        got = str(error).split("got ", 1)[-1]
        raise NoImages(f"{path}: expected a JSON list of image paths, got {got}") from error
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise NoImages(f"{path}: expected a JSON list of image paths, got other JSON")
    if not listed or any(each.lower().endswith(".json") for each in listed):
        raise NoImages(f"{path}: expected a JSON list of image paths, got none or another list")
    return listed


def _named(folder: Path, argument: str, found: list[Path]) -> list[ImageFile]:
    if not found:
        raise NoImages(f"{argument}: expected images ({', '.join(IMAGE_SUFFIXES)}), got none")
    return [ImageFile(path, path.relative_to(folder).as_posix()) for path in sorted(found)]


def _unused(name: str, names: Container[str]) -> str:
    """`name`, or `name-2` and so on before its suffix."""
    path, count = PurePosixPath(name), 1
    while name in names:
        count += 1
        name = path.with_stem(f"{path.stem}-{count}").as_posix()
    return name


def has_image_name(name: str) -> bool:
    """Whether a file of this name, without its folders, is taken for an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(_APPLE_DOUBLE)


def _is_image(path: Path) -> bool:
    return has_image_name(path.name) and path.is_file()


def _fixed_part(pattern: Path) -> Path:
    """The folders before the first one with a wildcard."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern
