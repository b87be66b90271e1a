"""Find people through a running pose server: library, COCO evaluation, pictures, `pose-client`."""

from bodypose_client.wire.access import Tls
from bodypose_client.wire.retries import NO_RETRIES, Retries
from bodypose_client.wire.shared_memory import SharedMemory

from .async_client import AsyncPoseClient
from .pose_client import PoseClient
from .results import ImagePoses

__all__ = [
    "NO_RETRIES",
    "AsyncPoseClient",
    "ImagePoses",
    "PoseClient",
    "Retries",
    "SharedMemory",
    "Tls",
]
