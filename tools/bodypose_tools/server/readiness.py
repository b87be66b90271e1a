"""Whether a server answers, and has a model or one version of it ready."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

_TIMEOUT_S = 5


def is_ready(url: str, model: str, version: int | None = None) -> bool:
    """Whether `model` is ready; False also when no server answers at `url`.

    Args:
        url: the server's HTTP endpoint, `http://host:port` or `host:port`.
        model: its name.
        version: its version; None: any.
    """
    return _status(url, _path(model, version)) == http.client.OK


def is_server_ready(url: str) -> bool:
    """Whether the server wants requests: all its models are ready, and it is not stopping."""
    return _status(url, "/v2/health/ready") == http.client.OK


def answers(url: str) -> bool:
    """Whether a server answers at `url`."""
    return _status(url, "/v2/health/live") == http.client.OK


def _path(model: str, version: int | None) -> str:
    return f"/v2/models/{model}{'' if version is None else f'/versions/{version}'}/ready"


def _status(url: str, path: str) -> int | None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
