"""`tools demo`: one photo through a real Triton, from an empty folder to a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bodypose_client.files.picture_file import write_picture
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.image_bytes import read_image_file
from bodypose_client.pictures.drawing import draw_poses
from bodypose_client.pictures.examples import EXAMPLES
from bodypose_client.pose_client import PoseClient
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.choice import choose
from bodypose_tools.repository.settings import NetworkPrecision
from bodypose_tools.repository.targets import tuned
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.runtimes.cpu import cpu_flags
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import ImageLimits

from .embedded import embedded_server

REPOSITORY = Path("build/demo_repository")


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo found and drew."""

    poses: Poses
    skeleton: Skeleton
    picture: Path
    request_ms: float


def show_people(photo: Path | None, picture: Path, say: Callable[[str], None]) -> Shown:
    """Build a repository from the shipped model, serve it, find the people of a photo, draw them.

    Args:
        photo: an image file; None: an example picture of the package.
        picture: image file to write.
        say: gets a line before each step.

    Raises:
        FileError, ImageError: the photo cannot be read.
        RepositoryError, ServerError: a part is missing; the message says what to run.
    """
    photo = photo or EXAMPLES["friends"]
    data = read_image_file(photo)
    pixels = decode_image(data, ImageLimits())
    chosen = choose(ShippedModel.BODYPOSE_S, NetworkPrecision.AUTO, cpu_flags())
    say(f"building {REPOSITORY} from {chosen}")
    build_repository(chosen.graph, REPOSITORY, tuned(Tuning(precision=chosen.precision)))
    say("starting tritonserver on loopback")
    with embedded_server(REPOSITORY) as server, PoseClient(f"grpc://{server.grpc_url}") as client:
        say(f"sending {len(data)} bytes of {photo.name} to grpc://{server.grpc_url}")
        started = time.perf_counter()
        poses = client.infer(data).above(DISPLAY_MIN_SCORE)
        request_ms = (time.perf_counter() - started) * 1000
        skeleton = client.skeleton
    write_picture(picture, draw_poses(pixels, poses, skeleton, min_score=0))
    return Shown(poses, skeleton, picture, request_ms)
