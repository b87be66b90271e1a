"""What a server may ask of its callers: TLS, a token, headers."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bodypose_client.errors import AddressError, FileError, TlsFailed

from .address import Address

# gRPC's; names that end in -bin have other values.
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+(?<!-bin)")
_HEADER_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of an encrypted connection; without `ca_file` the system's authorities count."""

    ca_file: Path | None = None
    cert_file: Path | None = None  # ours, for a server that asks for one
    key_file: Path | None = None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """The contents of authority, certificate and key.

        Raises:
            FileError: one cannot be read.
        """
        ca, cert, key = map(_read, (self.ca_file, self.cert_file, self.key_file))
        return ca, cert, key

    def context(self, address: Address) -> ssl.SSLContext:
        """For the standard library and aiohttp.

        Raises:
            FileError: a file cannot be read.
            TlsFailed: a file is no certificate or key.
        """
        self.read()
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except ssl.SSLError as error:
            raise TlsFailed(str(address), f"unusable files: {error}") from error
        return context


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in. `headers` travel with every request."""

    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tls: Tls | None, token: str | None, headers: Mapping[str, str] | None) -> Access:
        """From a caller's options; the token becomes an `authorization` header.

        Raises:
            AddressError: a header that neither protocol can send.
        """
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        if token:
            sent["authorization"] = f"Bearer {token.strip()}"  # files often end in a newline
        for name, value in sent.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                # Without the value, which may be a secret.
                raise AddressError(f"header {name!r}: expected printable ASCII, got something else")
        return cls(tls or Tls(), sent)

    def check(self, address: Address) -> None:
        """Check that certificates go with an encrypted connection, and with their keys.

        Raises:
            AddressError: they do not.
        """
        if self.tls != Tls() and not address.secure:
            raise AddressError(
                f"{address}: expected {address.protocol}s:// with TLS files, got"
                f" {address.protocol}://"
            )
        if (self.tls.cert_file is None) != (self.tls.key_file is None):
            raise AddressError(
                f"{address}: expected a certificate and its key, got one of them; one file that"
                " holds both may be given as both"
            )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(path, "a PEM file", error) from error
