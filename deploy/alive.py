#!/usr/bin/env python3
"""Liveness: exit code 0 when the server answers a real image, or says that it is full or stopping.

Triton stays ready when the process of a Python model has died; then this image is an error.
"""

import http.client
import os
import sys
from pathlib import Path

models = Path(os.environ.get("MODELS", "@{models_mount}/models"))
port = int(os.environ.get("HTTP_PORT", "@{http_port}"))
# The image of the model's warm-up: its length in four bytes, then a JPEG.
(warmup,) = (models / "@{preprocess}" / "warmup").iterdir()
image = warmup.read_bytes()[4:]
server = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
try:
    headers = {"Inference-Header-Content-Length": "0"}
    server.request("POST", "/v2/models/@{name}/infer", image, headers)
    answer = server.getresponse()
    said = f"{answer.status} {answer.read(200)!r}"
    alive = answer.status in (http.client.OK, http.client.SERVICE_UNAVAILABLE)
except OSError as error:
    said, alive = f"no answer: {error}", False
if not alive:
    sys.exit(f"expected an answer or 503, got {said}")
