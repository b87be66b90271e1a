"""Find people through a running pose server: library, COCO evaluation, pictures, `pose-client`.

What a program imports stands here; the files below may move. A name's module loads when the name
is used, so that `PoseClient` does not wait for OpenCV or pycocotools.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pose_runtime import __version__ as __version__
from pose_runtime.extras import explained

if TYPE_CHECKING:
    from pose_runtime.errors import ContractError, ImageError, PoseError
    from pose_runtime.extras import MissingPackage
    from pose_runtime.images import decode_image
    from pose_runtime.poses import FOUND_JOINT_SCORE, Poses
    from pose_runtime.skeleton import Skeleton
    from pose_runtime.spec import ImageLimits, PipelineSpec

    from .async_client import AsyncPoseClient
    from .errors import (
        AccessDenied,
        AddressError,
        AnnotationError,
        ClientClosed,
        ClientError,
        DiskError,
        FileError,
        ModelNotFound,
        NotAPoseModel,
        RateLimited,
        RequestRejected,
        ServerBusy,
        ServerTimeout,
        ServerUnavailable,
        SharedMemoryRefused,
        TlsFailed,
        WrongProtocol,
    )
    from .evaluation import Evaluation, evaluate_server, open_split
    from .files.picture_file import write_picture
    from .formats import DISPLAY_MIN_SCORE, ImageInfo, ServedModel
    from .pictures.boxes import draw_boxes
    from .pictures.drawing import draw_poses
    from .pose_client import PoseClient
    from .results import ImagePoses, Person
    from .scoring.coco_eval import CocoMetrics, evaluate_results
    from .wire.access import Tls
    from .wire.connection import ModelStatistics, ServerInfo
    from .wire.retries import NO_RETRIES, PATIENT, Retries
    from .wire.shared_memory import SharedMemory

_MODULES = {
    "pose_runtime.errors": "ContractError ImageError PoseError",
    "pose_runtime.extras": "MissingPackage",
    "pose_runtime.images": "decode_image",
    "pose_runtime.poses": "FOUND_JOINT_SCORE Poses",
    "pose_runtime.skeleton": "Skeleton",
    "pose_runtime.spec": "ImageLimits PipelineSpec",
    "bodypose_client.async_client": "AsyncPoseClient",
    "bodypose_client.errors": "AccessDenied AddressError AnnotationError ClientClosed ClientError"
    " DiskError FileError ModelNotFound NotAPoseModel RateLimited RequestRejected ServerBusy"
    " ServerTimeout ServerUnavailable SharedMemoryRefused TlsFailed WrongProtocol",
    "bodypose_client.evaluation": "Evaluation evaluate_server open_split",
    "bodypose_client.files.picture_file": "write_picture",
    "bodypose_client.formats": "DISPLAY_MIN_SCORE ImageInfo ServedModel",
    "bodypose_client.pictures.boxes": "draw_boxes",
    "bodypose_client.pictures.drawing": "draw_poses",
    "bodypose_client.pose_client": "PoseClient",
    "bodypose_client.results": "ImagePoses Person",
    "bodypose_client.scoring.coco_eval": "CocoMetrics evaluate_results",
    "bodypose_client.wire.access": "Tls",
    "bodypose_client.wire.connection": "ModelStatistics ServerInfo",
    "bodypose_client.wire.retries": "NO_RETRIES PATIENT Retries",
    "bodypose_client.wire.shared_memory": "SharedMemory",
}
# A program decides what is shown of the log.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [  # noqa: RUF022  grouped as the page does
    # clients and what they hand out
    "PoseClient",
    "AsyncPoseClient",
    "ImagePoses",
    "ImageInfo",
    "ModelStatistics",
    "Person",
    "PipelineSpec",
    "Poses",
    "ServedModel",
    "ServerInfo",
    "Skeleton",
    # how they connect
    "NO_RETRIES",
    "PATIENT",
    "Retries",
    "SharedMemory",
    "Tls",
    # pictures
    "DISPLAY_MIN_SCORE",
    "FOUND_JOINT_SCORE",
    "ImageLimits",
    "decode_image",
    "draw_boxes",
    "draw_poses",
    "write_picture",
    # evaluation
    "CocoMetrics",
    "Evaluation",
    "evaluate_results",
    "evaluate_server",
    "open_split",
    # errors
    "AccessDenied",
    "AddressError",
    "AnnotationError",
    "ClientClosed",
    "ClientError",
    "ContractError",
    "DiskError",
    "FileError",
    "ImageError",
    "MissingPackage",
    "ModelNotFound",
    "NotAPoseModel",
    "PoseError",
    "RateLimited",
    "RequestRejected",
    "ServerBusy",
    "ServerTimeout",
    "ServerUnavailable",
    "SharedMemoryRefused",
    "TlsFailed",
    "WrongProtocol",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        raise explained(error) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
