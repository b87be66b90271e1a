"""What a person may choose of the embedded server: ports, TLS, addresses, updates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pose_runtime.errors import PoseError

# Longer than balancers need to see two failed health checks, one a second.
DRAIN_S = 5.0


class ServerError(PoseError):
    """The embedded server cannot start, or stopped without being told to."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the server's endpoints; 0 is any free port."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0


DEFAULT_PORTS = Ports(http=8000, grpc=8001, metrics=8002)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of an encrypted gRPC endpoint; Triton's HTTP endpoint has no encryption."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None  # given: clients need a certificate signed by it

    def options(self) -> list[str]:
        """Triton's options for these files.

        Raises:
            ServerError: a file cannot be read.
        """
        for path in (self.cert_file, self.key_file, self.client_ca_file):
            try:
                if path is not None:
                    path.read_bytes()
            except OSError as error:
                raise ServerError(f"{path}: expected a PEM file, got {error.strerror}") from error
        options = [
            "--grpc-use-ssl=true",
            f"--grpc-server-cert={self.cert_file}",
            f"--grpc-server-key={self.key_file}",
        ]
        if self.client_ca_file is not None:
            options += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={self.client_ca_file}"]
        return options


@dataclass(frozen=True, slots=True)
class Outside:
    """An address of the server that is not plain loopback.

    With `tls` only the gRPC endpoint listens on `host`; without it HTTP does, too. Metrics stay on
    loopback.
    """

    host: str
    tls: ServerTls | None = None


class Updates(StrEnum):
    """Whether the server follows changes of the repository.

    Triton's third mode, "explicit", is not offered: with it, requests can load models with code.
    """

    NONE = "none"
    POLL = "poll"
