"""Server URLs: `grpc://127.0.0.1:8001/bodypose` is protocol, host, port and model.

`grpcs://` and `https://` are the same, encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from bodypose_client.errors import AddressError

DEFAULT_MODEL = "bodypose"


class Protocol(StrEnum):
    """How requests travel; both carry KServe v2."""

    GRPC = "grpc"
    HTTP = "http"


DEFAULT_PORTS = {Protocol.GRPC: 8001, Protocol.HTTP: 8000}
DEFAULT_TLS_PORT = 443
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_URLS = {
    protocol: f"{protocol}://127.0.0.1:{port}" for protocol, port in DEFAULT_PORTS.items()
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one model is served. An empty version leaves the choice to the server."""

    protocol: Protocol
    host: str
    port: int
    model: str = DEFAULT_MODEL
    version: str = ""
    secure: bool = False  # through TLS
    others: tuple[tuple[str, int], ...] = ()  # host and port of more servers, over gRPC

    @property
    def scheme(self) -> str:
        return f"{self.protocol}s" if self.secure else self.protocol.value

    @property
    def is_loopback(self) -> bool:
        return self.host in _LOOPBACK

    @property
    def netloc(self) -> str:
        """`host:port` of the first server, with brackets around an IPv6 address."""
        return _netloc(self.host, self.port)

    @property
    def path(self) -> str:
        """`host:port/model`, and the version if one was asked for: the URL without its protocol."""
        version = f"/{self.version}" if self.version else ""
        servers = ((self.host, self.port), *self.others)
        return f"{','.join(_netloc(*server) for server in servers)}/{self.model}{version}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address in `protocol://host[:port][,host[:port]...][/model[/version]]`.

        Raises:
            AddressError: saying which part is wrong.
        """
        try:
            parts, more = _split(url)
            protocol, port = Protocol(parts.scheme.removesuffix("s")), parts.port
            others = [(each.hostname or "", each.port) for each in more]
        except ValueError:
            raise _not_an_address(url) from None
        path = [part for part in parts.path.split("/") if part]
        if not parts.hostname or len(path) > 2 or parts.query or parts.fragment or parts.username:
            raise _not_an_address(url)
        model, version = [*path, *("", "")[len(path) :]]
        if version and not version.isdigit():
            raise AddressError(f"url {url!r}: expected a version number, got {version!r}")
        if not all(host for host, _ in others):
            raise _not_an_address(url)
        if others and protocol is not Protocol.GRPC:
            raise AddressError(
                f"url {url!r}: expected one server over HTTP, got {len(others) + 1}; several are"
                " asked in turns over grpc://"
            )
        secure = parts.scheme.endswith("s")
        default_port = DEFAULT_TLS_PORT if secure else DEFAULT_PORTS[protocol]
        return cls(
            protocol,
            parts.hostname,
            default_port if port is None else port,
            model or DEFAULT_MODEL,
            version,
            secure,
            tuple((host, default_port if port is None else port) for host, port in others),
        )


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(url: str) -> tuple[SplitResult, list[SplitResult]]:
    """The parts of `url` with its first server alone, and those of the other servers."""
    # Before `urlsplit` sees them: newer Pythons refuse brackets behind a comma (CVE-2024-11168).
    scheme, mark, rest = url.partition("://")
    servers, slash, path = rest.partition("/")
    first, *others = servers.split(",")
    whole = urlsplit(f"{scheme}{mark}{first}{slash}{path}")
    return whole, [urlsplit(f"//{other}") for other in others]


def _not_an_address(url: str) -> AddressError:
    return AddressError(
        "url: expected grpc://host:port/model or http://host:port/model, such as"
        f" {DEFAULT_URLS[Protocol.GRPC]}/{DEFAULT_MODEL}, got {url!r}"
    )
