"""What a person may choose of a deployment, and the numbers that stand in several of its files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

DEFAULT_FOLDER: Final = Path("build/deploy")

GATEWAY_PORT: Final = 8443
GATEWAY_MIB: Final = 2048  # Envoy's memory, in which requests are held until they are whole
UID: Final = 1000  # user and group in every container
MODELS_MOUNT: Final = "/bodypose"  # where a container has models/ and models.json
TEMPORARY: Final = "/tmp:exec,size=1g"  # as Docker writes it; without `exec` no kernel loads
# A pod that ends answers for so long, until every balancer knows: Envoy asks once a second, and
# endpoints take seconds to leave a cluster's DNS.
DRAIN_S: Final = 15
EXIT_TIMEOUT_S: Final = 30  # of Triton, for what it accepted
GRACE_S: Final = 60
START_S: Final = 120
START_ON_GPU_S: Final = 600  # a GPU compiles
REQUESTS_PER_S: Final = 20  # of one token, through one gateway
TARGET_WAIT_MS: Final = 50  # of autoscaling: what an image waits in all steps together
SCALE_DOWN_S: Final = 300
SCRAPE_S: Final = 15
PROMETHEUS_URL: Final = "http://prometheus-operated.monitoring:9090"  # the operator's service

ENVOY: Final = "1.39.3"
# Of the image of a GPU without a plan, as in constraints.txt.
PINNED: Final = {"onnx": "1.23.2", "torch": "2.13.0", "nvidia-nvjpeg": "13.3.2.43"}
OLDEST_KUBERNETES: Final = "1.30"  # the first with the `sleep` of preStop
FIRST_IMAGE_VOLUMES: Final = "1.35"  # the first with them switched on
NEWEST_KUBERNETES: Final = "1.37"


class Access(StrEnum):
    """Who may ask through the gateway."""

    TOKEN = "token"  # with TLS and an access token
    OPEN = "open"  # whoever reaches it, without encryption
