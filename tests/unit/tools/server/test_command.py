"""Who may come to the embedded server, as its command line says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.server import embedded as server
from bodypose_tools.server import wheel as triton_wheel
from bodypose_tools.server.command import CLOSED_APIS, HOST, free_ports, is_loopback, server_command
from bodypose_tools.server.settings import Outside, Ports, ServerError, ServerTls
from pose_runtime.extras import install_line


@pytest.fixture
def tls(tmp_path) -> ServerTls:
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("PEM")
    return ServerTls(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")


def options(outside: Outside | None = None, closed=CLOSED_APIS) -> dict[str, list[str]]:
    words = server_command(
        *(Path("/wheel"), Path("/models"), Path("/backends"), "name"),
        *(Ports(1, 2, 3), closed, outside),
    )
    pairs = [str(word).removeprefix("--").split("=", 1) for word in words[1:]]
    return {name: [rest for other, *rest in pairs if other == name] for name, *_ in pairs}


def only(found: dict[str, list[str]], name: str) -> str:
    ((value,),) = found[name]
    return value


@pytest.mark.parametrize("endpoint", ["http", "grpc", "metrics"])
def test_only_this_machine_may_come(endpoint):
    assert only(options(), f"{endpoint}-address") == HOST


def test_with_tls_only_grpc_is_reachable_and_encrypted(tls):
    found = options(Outside("192.0.2.7", tls))

    assert only(found, "grpc-address") == "192.0.2.7"
    assert only(found, "http-address") == only(found, "metrics-address") == HOST
    assert only(found, "grpc-use-ssl") == only(found, "grpc-use-ssl-mutual") == "true"
    assert only(found, "grpc-server-cert") == str(tls.cert_file)
    assert only(found, "grpc-server-key") == str(tls.key_file)
    assert only(found, "grpc-root-cert") == str(tls.client_ca_file)


def test_insecure_opens_grpc_and_http_and_not_the_metrics():
    found = options(Outside("0.0.0.0"))

    assert only(found, "grpc-address") == only(found, "http-address") == "0.0.0.0"
    assert only(found, "metrics-address") == HOST
    assert "grpc-use-ssl" not in found


@pytest.mark.parametrize("outside", [None, Outside("0.0.0.0")])
def test_what_could_change_the_server_needs_a_key_that_nobody_is_told(outside):
    keys = []
    for _ in range(2):
        found = options(outside)
        for name in ("http-restricted-api", "grpc-restricted-protocol"):
            apis, _, value = re.split("[:=]", only(found, name))
            assert set(apis.split(",")) == {"shared-memory", "model-repository", "trace", "logging"}
            keys.append(value)
    assert len(set(keys)) == 4
    assert min(map(len, keys)) == 32


def test_loading_models_by_request_is_never_possible():
    assert only(options(), "model-control-mode") == "poll"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_known_by_its_address(host, loopback):
    assert is_loopback(host) is loopback


def test_an_address_of_another_machine_is_one_line():
    said = r"--host: expected an address of this machine, got 192\.0\.2\.7"
    with pytest.raises(ServerError, match=said):
        free_ports(Ports(0, 0, 0), Outside("192.0.2.7"))


def test_one_port_for_two_endpoints_is_one_line():
    with pytest.raises(ServerError, match="expected different ports, got 8123 twice"):
        free_ports(Ports(8123, 8123, 0))


def test_a_missing_certificate_is_one_line(tmp_path):
    with pytest.raises(ServerError, match=r"none\.pem: expected a PEM file, got No such file"):
        ServerTls(tmp_path / "none.pem", tmp_path / "none.pem").options()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--host", "0.0.0.0"], "not loopback: expected --tls-cert and --tls-key, or --insecure"),
        (["--host", "pose.example.org"], "not loopback"),
        (["--host", "0.0.0.0", "--tls-cert", "cert.pem"], "expected both"),
        (["--tls-client-ca", "ca.pem"], "expected both"),
        (["--host", "::", "--tls-cert", "c", "--tls-key", "k", "--insecure"], "one of TLS and"),
        (["--model-control-mode", "explicit"], "explicit"),
    ],
)
def test_an_open_door_is_a_usage_error(arguments, complaint):
    result = CliRunner().invoke(app, ["serve", *arguments], env={"COLUMNS": "300"})

    assert result.exit_code == 2
    assert complaint in " ".join(result.output.replace("│", " ").split())


def test_another_address_is_served_with_a_warning(tmp_path, monkeypatch):
    started = []

    def refuse(*arguments, **options):
        started.append(options["outside"])
        raise ServerError("enough for a test")

    monkeypatch.setattr(server, "embedded_server", refuse)
    monkeypatch.setattr("bodypose_tools.repository.build.changes_since_build", lambda folder: [])
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--host", "0.0.0.0", "--insecure"])

    assert started == [Outside("0.0.0.0")]
    assert "warning: 0.0.0.0: tritonserver 2.51 has published vulnerabilities" in result.stderr
    assert "docs/security.md" in result.stderr


@pytest.mark.parametrize("kind", ["QuantizeLinear", "Conv"])
def test_an_int8_graph_on_a_cpu_that_cannot_add_it_is_warned_of(kind, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise ServerError("enough for a test")

    network = tmp_path / "bodypose_network" / "1"
    network.mkdir(parents=True)
    (network / "model.onnx").write_bytes(b"graph with " + kind.encode())
    monkeypatch.setattr(server, "embedded_server", refuse)
    monkeypatch.setattr("bodypose_tools.repository.build.changes_since_build", lambda folder: [])
    monkeypatch.setattr("bodypose_tools.runtimes.cpu.int8_warning", lambda: "no VNNI here")
    result = CliRunner().invoke(app, ["serve", str(tmp_path)])
    assert ("warning: no VNNI here" in result.stderr) == (kind == "QuantizeLinear")


def test_another_python_is_named_with_those_that_fit(monkeypatch):
    pytest.importorskip("pytriton", reason=f"needs nvidia-pytriton: {install_line('embedded')}")
    monkeypatch.setattr(triton_wheel, "_python_version", lambda: "3.99")

    with pytest.raises(ServerError, match=r"expected one of Python .*3\.11, 3\.12.*, got 3\.99;"):
        triton_wheel.find_wheel()
