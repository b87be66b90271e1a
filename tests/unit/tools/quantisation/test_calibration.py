import struct
import tracemalloc

import numpy as np
import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.quantisation.calibration import (
    NUM_BINS,
    CalibrationError,
    Histogram,
    channel_means,
    scales_of,
)
from bodypose_tools.quantisation.calibration_files import (
    images_in_data_file,
    images_of,
    read_cache,
    write_cache,
    write_data_file,
)
from bodypose_tools.quantisation.settings import Method
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits

HW = (64, 96)
NORMAL = np.random.default_rng(0).normal(size=200_000).astype(np.float32)


def histogram_of(*arrays) -> Histogram:
    histogram = Histogram()
    for values in arrays:
        histogram.add(np.asarray(values, np.float32))
    return histogram


def test_max_keeps_the_largest_magnitude_of_all_images():
    assert histogram_of([1, -3], [2], [0]).limit(Method.MAX) == 3


def test_every_value_is_counted_whatever_comes_first():
    growing = histogram_of(*(NORMAL * scale for scale in (0.01, 1, 100)))
    shrinking = histogram_of(*(NORMAL * scale for scale in (100, 1, 0.01)))
    for histogram in (growing, shrinking):
        assert histogram.counts.sum() == 3 * NORMAL.size
        assert histogram.largest == pytest.approx(100 * np.abs(NORMAL).max())
    for method in Method:
        assert growing.limit(method) == pytest.approx(shrinking.limit(method), rel=0.05)


def test_percentile_leaves_out_one_value_in_ten_thousand():
    limit = histogram_of(NORMAL).limit(Method.PERCENTILE)
    assert limit == pytest.approx(np.quantile(np.abs(NORMAL), 0.9999), abs=2 / NUM_BINS * 5)


def test_entropy_clips_a_lone_outlier_and_keeps_a_flat_distribution():
    assert histogram_of(NORMAL, [100]).limit(Method.ENTROPY) < 10
    flat = np.linspace(-5, 5, 100_000)
    assert histogram_of(flat).limit(Method.ENTROPY) == pytest.approx(5, rel=0.02)


def test_zeros_say_nothing_about_the_scale():
    sparse = np.concatenate([NORMAL, np.zeros(20 * NORMAL.size)])
    alone, among_zeros = histogram_of(NORMAL), histogram_of(sparse)
    assert among_zeros.limit(Method.ENTROPY) == alone.limit(Method.ENTROPY)


def test_a_tensor_that_is_always_zero_keeps_a_scale():
    scales = scales_of(["dead"], lambda _: [np.zeros(4, np.float32)], [np.zeros(1)], Method.ENTROPY)
    assert scales == {"dead": 1 / 127}


def test_a_value_that_is_not_finite_names_its_tensor():
    with pytest.raises(CalibrationError, match="broken: expected finite"):
        scales_of(["broken"], lambda _: [np.float32([np.nan])], [np.zeros(1)], Method.MAX)


def test_means_are_of_channels_over_positions_and_images():
    images = [np.full((2, 2, 3), value, np.uint8) for value in (1, 3)]

    def activations(image):
        return [np.float32([[[[1, 2]], [[3, 5]]]]) * image.max(), np.float32([[4, 8]])]

    means = channel_means(["field", "vector"], activations, images)
    assert {name: values.tolist() for name, values in means.items()} == {
        "field": [3, 8],
        "vector": [4, 8],
    }


def test_memory_does_not_grow_with_the_number_of_images():
    def peak(images: int) -> int:
        tracemalloc.start()
        stream = (np.full((64, 64), n, np.uint8) for n in range(images))
        scales_of(["x"], lambda image: [image.astype(np.float32)], stream, Method.MAX)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(3)
    # Kept images would be 297 more; other threads of the tests allocate a little meanwhile.
    assert peak(300) < peak(3) + 30 * 64 * 64 * 4


def test_images_are_what_the_server_would_see(drawn_coco):
    paths = sorted(drawn_coco.glob("*.png"))
    for path, pixels in zip(paths, images_of(drawn_coco, 2, HW), strict=True):
        served, letterbox = network_pixels(path.read_bytes(), HW, ImageLimits())
        assert np.array_equal(pixels, served)
        assert letterbox.offset_xy[0] > 0  # letterboxed, not stretched


def test_too_few_images_are_an_error_that_says_how_many(drawn_coco):
    with pytest.raises(CalibrationError, match="batches x batch_size = 3 images, got 2"):
        list(images_of(drawn_coco, 3, HW))


def test_the_data_file_gives_the_same_pixels_again(drawn_coco, tmp_path):
    path = tmp_path / "cal.h5"
    write_data_file(path, images_of(drawn_coco, 2, HW), HW)
    again = list(images_in_data_file(path, 2, HW))
    assert all(map(np.array_equal, again, images_of(drawn_coco, 2, HW)))
    written = path.read_bytes()
    write_data_file(path, again, HW)
    assert path.read_bytes() == written


def test_a_data_file_of_another_size_or_with_fewer_images_is_refused(drawn_coco, tmp_path):
    path = tmp_path / "cal.h5"
    write_data_file(path, images_of(drawn_coco, 1, HW), HW)
    with pytest.raises(CalibrationError, match=r"expected pixels \(N, 32, 96, 3\)"):
        next(images_in_data_file(path, 1, (32, 96)))
    with pytest.raises(CalibrationError, match="= 2 images, got 1"):
        next(images_in_data_file(path, 2, HW))
    path.write_text("not HDF5")
    with pytest.raises(CalibrationError, match="expected an HDF5 cal_data_file"):
        next(images_in_data_file(path, 1, HW))


GRAPH = "f" * 64  # sha256 of what was calibrated
SCALES = {"a:0": 0.5, "b/c:0": float(np.float32(0.1))}


@pytest.fixture
def model(tmp_path) -> Artifact:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return Artifact.record(path, "export")


def test_the_cache_is_tensorrts_text_and_comes_back(model, tmp_path):
    path = tmp_path / "cal.bin"
    write_cache(path, SCALES, Method.ENTROPY, model, images=8, network_hw=HW, graph=GRAPH)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("TRT-")
    assert lines[0].endswith("-EntropyCalibration2")
    assert lines[1] == "a:0: 3f000000"
    assert struct.unpack(">f", bytes.fromhex(lines[2].rsplit(" ", 1)[1])) == (SCALES["b/c:0"],)
    assert read_cache(path, list(SCALES), model, HW, GRAPH) == SCALES


def test_tensorrts_own_cache_is_read(model, tmp_path):
    path = tmp_path / "cal.bin"
    path.write_text("TRT-8501-EntropyCalibration2\na:0: 3f000000\nother: 3c010a14\n")
    assert read_cache(path, ["a:0"], model, HW, GRAPH) == {"a:0": 0.5}


def test_a_cache_of_another_model_or_without_a_tensor_is_refused(model, tmp_path):
    path = tmp_path / "cal.bin"
    write_cache(path, SCALES, Method.MAX, model, images=8, network_hw=HW, graph=GRAPH)
    other = Artifact(tmp_path / "other.onnx", "0" * 64, "export")
    with pytest.raises(
        CalibrationError, match=r"expected scales of other\.onnx, got those of another"
    ):
        read_cache(path, list(SCALES), other, HW, GRAPH)
    with pytest.raises(CalibrationError, match=r"input size \(32, 96\), got \[64, 96\]"):
        read_cache(path, list(SCALES), model, (32, 96), GRAPH)
    with pytest.raises(CalibrationError, match="of the equalised graph 000000000000, got those of"):
        read_cache(path, list(SCALES), model, HW, "0" * 64)
    with pytest.raises(CalibrationError, match="expected a scale of new"):
        read_cache(path, ["a:0", "new"], model, HW, GRAPH)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a TensorRT calibration cache"),
        ("TRT-8501-EntropyCalibration2\na:0: xyz\n", "cal.bin:2: expected `tensor: hex`"),
    ],
)
def test_what_is_no_cache_is_refused(model, tmp_path, text, said):
    path = tmp_path / "cal.bin"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=said):
        read_cache(path, ["a:0"], model, HW, GRAPH)
