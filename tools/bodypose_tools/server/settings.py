"""What a person may choose of the embedded server: ports, TLS, hosts beyond loopback, updates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pose_runtime.errors import PoseError


class ServerError(PoseError):
    """The embedded server cannot start, or stopped by itself."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the server listens; 0 means any free port."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of an encrypted gRPC endpoint; Triton's HTTP endpoint has no encryption."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None  # given: only clients with a certificate of it may come

    def options(self) -> list[str]:
        """Raises: ServerError: a file cannot be read."""
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
    """Who may come besides this machine's own loopback.

    With `tls` only the gRPC endpoint listens on `host`; without it HTTP does, too. Metrics stay on
    loopback.
    """

    host: str
    tls: ServerTls | None = None


class Updates(StrEnum):
    """Whether the server follows changes of the repository.

    Triton's third way, "explicit", loads what a request brings, code included: not offered.
    """

    NONE = "none"
    POLL = "poll"
