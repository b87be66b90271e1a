import pytest

from bodypose_client.errors import AddressError
from bodypose_client.wire.address import Address, Protocol


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://127.0.0.1:8001/bodypose", (Protocol.GRPC, "127.0.0.1", 8001, "bodypose", "")),
        ("http://host", (Protocol.HTTP, "host", 8000, "bodypose", "")),
        ("grpc://host/mine/3", (Protocol.GRPC, "host", 8001, "mine", "3")),
        ("http://[::1]:9/bodypose", (Protocol.HTTP, "::1", 9, "bodypose", "")),
    ],
)
def test_a_url_says_protocol_host_port_and_model(url, expected):
    address = Address.parse(url)

    assert (
        address.protocol,
        address.host,
        address.port,
        address.model,
        address.version,
    ) == expected


def test_several_servers_are_separated_by_commas():
    url = "grpc://a:1,b:2,[::1]:3,c/mine"

    address = Address.parse(url)

    assert (address.host, address.port) == ("a", 1)
    assert address.others == (("b", 2), ("::1", 3), ("c", 8001))
    assert str(address) == "grpc://a:1,b:2,[::1]:3,c:8001/mine"


def test_http_asks_one_server():
    with pytest.raises(AddressError, match="expected one server over HTTP, got 2"):
        Address.parse("http://a:1,b:2")


def test_an_address_prints_as_its_url():
    assert str(Address.parse("grpc://[::1]:9/mine/3")) == "grpc://[::1]:9/mine/3"
    assert str(Address.parse("http://host")) == "http://host:8000/bodypose"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8001",
        "ftp://host/x",
        "grpc://",
        "http://h:port",
        "grpc://h/a/1/b",
        "grpc://h/a/x",
        "grpc://[::1",
        "grpc://a,",
        "grpc://,a",
        "grpc://a:1,b:x",
    ],
)
def test_what_is_no_address_is_named(url):
    with pytest.raises(AddressError, match="expected"):
        Address.parse(url)


@pytest.mark.parametrize(("scheme", "protocol"), [("grpcs", "grpc"), ("https", "http")])
def test_an_encrypted_address(scheme, protocol):
    address = Address.parse(f"{scheme}://host/mine")

    assert (address.protocol, address.port, address.secure) == (protocol, 443, True)
    assert str(address) == f"{scheme}://host:443/mine"
