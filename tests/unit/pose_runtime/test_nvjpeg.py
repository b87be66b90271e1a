"""Without a card, or without the library, the decoder in hardware says in one line what to do."""

import pytest

from pose_runtime.nvjpeg import HardwareDecoder, JpegHardwareError


def test_a_missing_library_names_the_line_that_installs_it():
    with pytest.raises(JpegHardwareError, match=r"libnvjpeg\.so\.1: .*|got none; run") as error:
        HardwareDecoder("1.0")

    assert "embedded-cuda" in str(error.value)


def test_no_card_with_a_decoder_is_one_line():
    pytest.importorskip("nvidia.cu13", reason="needs nvidia-nvjpeg: pip install nvidia-nvjpeg")

    with pytest.raises(JpegHardwareError, match="expected a GPU with a JPEG decoder") as error:
        HardwareDecoder("13.0")

    assert "\n" not in str(error.value)
