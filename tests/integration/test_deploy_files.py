"""The programs that will read the files of `tools deploy-files` read them here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bodypose_tools.deploying import settings
from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.settings import NEWEST_KUBERNETES, Access
from bodypose_tools.deploying.values import Deployment, Server
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from tests.charts import USES, template, write_chart
from tests.gateways import envoy, haproxy
from tests.integration.test_gateway_attacks import write_certificate
from tests.serving import SPEC


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, tiny_onnx) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("repositories")
    model = tiny_onnx(folder / "tiny.onnx", SPEC)
    build_repository(model, folder / "embedded")
    build_repository(model, folder / "cpu", targets.cpu())
    return {name: folder / name for name in ("embedded", "cpu")}


def validated(folder: Path) -> str:
    done = subprocess.run(
        [envoy(), "-c", "envoy.yaml", "--mode", "validate", "--disable-hot-restart"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return "OK" if done.returncode == 0 else done.stderr[-2000:]


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("servers", [(), (Server("10.0.0.1"), Server("pose.example", 80, 81))])
def test_envoy_accepts_the_gateways_file(repositories, tmp_path, access, servers):
    out = tmp_path / "out"
    write_deploy_files(repositories["cpu"], out, Deployment(access=access, servers=servers))
    write_certificate(out / "gateway")
    assert validated(out / "gateway") == "OK"


def test_envoy_accepts_the_file_in_the_charts_config_map(tmp_path):
    chart = write_chart(USES["gpu"], tmp_path)
    objects = yaml.safe_load_all(template(chart, NEWEST_KUBERNETES))
    (config,) = (each for each in objects if each and each["kind"] == "ConfigMap")
    folder = tmp_path / "mounted"
    folder.mkdir()
    for name, text in config["data"].items():
        (folder / name).write_text(text)
    shutil.copyfile(chart.parent / "gateway/access.yaml", folder / "access.yaml")
    write_certificate(folder)
    assert "address: pose-servers, port_value: 8001" in config["data"]["envoy.yaml"]
    assert validated(folder) == "OK"
    (folder / "envoy.yaml").write_text(config["data"]["envoy.yaml"].replace("alpn_", "alpm_"))
    assert "alpm_protocols" in validated(folder)


def test_haproxy_accepts_its_file(repositories, tmp_path):
    out = tmp_path / "out"
    write_deploy_files(repositories["cpu"], out, Deployment(access=Access.OPEN))
    file = out / "gateway/haproxy.cfg"
    file.write_text(file.read_text().replace("server1 server:", "server1 127.0.0.1:"))
    subprocess.run([haproxy(), "-c", "-f", file], check=True, capture_output=True, timeout=60)


def test_systemd_accepts_the_unit(repositories, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: run `apt-get install systemd`")
    out = tmp_path / "out"
    write_deploy_files(repositories["embedded"], out, Deployment())
    unit = out / "bodypose.service"
    text = unit.read_text()
    assert f"--drain-seconds {settings.DRAIN_S}" in text
    assert "KillMode=mixed" in text
    assert f"TimeoutStopSec={settings.GRACE_S}" in text
    unit.write_text(text.replace("/opt/bodypose/bin/tools", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    unit.write_text(text.replace("KillMode=mixed", "KillMode=some"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "some" in done.stderr


def test_the_compose_file_keeps_to_the_policies_of_the_chart(repositories, tmp_path):
    out = tmp_path / "out"
    write_deploy_files(repositories["cpu"], out, Deployment())
    services = yaml.safe_load((out / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["user"] == f"{settings.UID}:{settings.UID}"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest")
    assert "ports" not in services["server"]
    assert services["server"]["shm_size"] >= 2**28
    assert services["server"]["stop_grace_period"] == f"{settings.GRACE_S}s"
    assert services["server"]["pre_stop"] == [{"command": ["sleep", str(settings.DRAIN_S)]}]
