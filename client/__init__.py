"""Find people through a running pose server: library, COCO evaluation, pictures, `pose-client`."""

from .access import Tls
from .async_client import AsyncPoseClient
from .pose_client import PoseClient
from .results import ImagePoses
from .retries import NO_RETRIES, Retries
from .shared_memory import SharedMemory

__all__ = [
    "NO_RETRIES",
    "AsyncPoseClient",
    "ImagePoses",
    "PoseClient",
    "Retries",
    "SharedMemory",
    "Tls",
]
