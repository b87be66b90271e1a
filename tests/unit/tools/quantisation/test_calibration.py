import math
import struct
import tracemalloc

import h5py
import numpy as np
import pytest

from bodypose_client.errors import FileError
from bodypose_tools.data.photos import images_in
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.quantisation import calibration
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


@pytest.mark.parametrize("read", [lambda folder: list(images_of(folder, 1, HW)),
                                  lambda folder: images_in(folder, HW)])  # fmt: skip
def test_a_folder_with_the_name_of_an_image_is_refused_in_one_line(tmp_path, read):
    (tmp_path / "1.jpg").mkdir()
    with pytest.raises(FileError, match=r"1\.jpg: expected an image file, got .*a folder"):
        read(tmp_path)


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


def bins_of(histogram: Histogram) -> dict[int, int]:
    return {int(place): int(histogram.counts[place]) for place in np.nonzero(histogram.counts)[0]}


def test_a_value_is_counted_in_its_bin_and_bins_are_merged_in_pairs():
    histogram = histogram_of([0, 1.01, -2.01, 4])
    assert (histogram.reach, bins_of(histogram)) == (4, {0: 1, 1034: 1, 2058: 1, 4095: 1})
    histogram.add(np.float32([-15.01]))
    assert histogram.reach == 16
    assert bins_of(histogram) == {0: 1, 258: 1, 514: 1, 1023: 1, 3842: 1}
    assert histogram.largest == pytest.approx(15.01)


def test_zeros_that_come_first_are_counted_and_set_no_reach():
    histogram = histogram_of(np.zeros(7), [2, 0])
    assert (histogram.reach, bins_of(histogram)) == (2, {0: 8, 4095: 1})
    assert histogram_of(np.zeros(7)).limit(Method.PERCENTILE) == 0


@pytest.mark.parametrize(("rare", "limit"), [(1, 11), (2, 3001)])
def test_a_percentile_is_the_end_of_the_bin_that_reaches_it(rare, limit):
    """Of 10,000 values one may be clipped."""
    counts = np.zeros(NUM_BINS)
    counts[10], counts[3000] = 10_000 - rare, rare
    histogram = Histogram(counts, reach=float(NUM_BINS), largest=3000.5)
    assert histogram.limit(Method.PERCENTILE) == min(limit, 3000.5)


def divergence(counts, kept):
    padded = np.zeros(NUM_BINS)
    padded[: len(counts)] = counts
    return calibration._divergence(padded, kept)


def test_the_divergence_is_of_the_kept_bins_from_their_128_levels():
    uneven = [3, 1] * 128
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(uneven, 256) == pytest.approx(expected)
    assert divergence([2, 0] * 128, 256) == pytest.approx(0)
    assert divergence([5, 1] * 64, 128) == pytest.approx(0)
    clipped = 255 / 512 * math.log(0.5) + 257 / 512 * math.log(257 / 2)
    assert divergence([1] * 256 + [256], 256) == pytest.approx(clipped)
    assert divergence([0] * 256 + [5], 256) == math.inf
    # A level of which nothing is kept, and a last bin that only holds what was clipped.
    assert divergence([4] * 255 + [0] + [4], 256) == pytest.approx(
        255 / 256 * math.log(255 / 256) + 1 / 256 * math.log(1 / 256 / 1e-9)
    )


@pytest.mark.parametrize("used", [2, 100, 128, 129, 144, 150])
def test_few_bins_are_all_kept_when_they_are_alike(used):
    counts = np.zeros(NUM_BINS)
    counts[:used] = 1000
    before = counts.copy()
    assert calibration._least_divergence(counts) == used
    assert np.array_equal(counts, before)


def test_what_lies_far_out_is_clipped_at_a_multiple_of_16():
    counts = np.zeros(NUM_BINS)
    counts[1:301] = np.linspace(3000, 1, 300) ** 2
    counts[4000] = 1
    candidates = [*range(128, 4001, 16), 4001]
    diverge = [divergence(counts, each) for each in candidates]
    kept = calibration._least_divergence(counts)
    assert kept == candidates[int(np.argmin(diverge))]
    assert 128 < kept < 400


def test_a_scale_is_a_127th_and_no_image_is_no_calibration():
    scales = scales_of(
        ["a", "b"],
        lambda image: [np.float32([image, -254]), np.float32([1.27])],
        [np.float32(3), np.float32(381)],
        Method.MAX,
    )
    assert scales == pytest.approx({"a": 3.0, "b": 0.01})
    with pytest.raises(CalibrationError, match="expected calibration images, got none"):
        scales_of(["a"], lambda image: [image], [], Method.MAX)
    assert channel_means(["a"], lambda image: [image], [])["a"].tolist() == [0]


def test_a_files_faults_are_shown_in_short(model, tmp_path):
    path = tmp_path / "cal.bin"
    path.write_text("x" * 60)
    with pytest.raises(CalibrationError, match=rf"calibration cache, got '{'x' * 40}'$"):
        read_cache(path, ["a:0"], model, HW, GRAPH)
    path.write_text("TRT-1-E\na:0: 3f000000\n\nb:0: 3f00\n")
    with pytest.raises(CalibrationError, match=r"cal\.bin:3: expected `tensor: hex`, got 'b:0: 3f"):
        read_cache(path, ["a:0"], model, HW, GRAPH)
    path.write_text("TRT-1-E\na:0: 3f000000\n")
    with pytest.raises(CalibrationError, match=r"expected a scale of b \(and 2 more\), got none;"):
        read_cache(path, ["a:0", "b", "c", "d"], model, HW, GRAPH)
    write_cache(path, SCALES, Method.MAX, model, images=8, network_hw=HW, graph=GRAPH)
    expected = r"graph 0123456789ab, got those of ffffffffffff \(other"
    with pytest.raises(CalibrationError, match=expected):
        read_cache(path, list(SCALES), model, HW, "0123456789abcdef" * 4)


def test_a_data_set_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "cal.h5"
    for content, got in (
        (np.zeros((1, *HW, 3), np.float32), r"\(1, 64, 96, 3\)"),
        (np.zeros((1, *HW, 4), np.uint8), r"\(1, 64, 96, 4\)"),
        (None, "None"),
    ):
        with h5py.File(path, "w") as file:
            if content is not None:
                file["pixels"] = content
        with pytest.raises(CalibrationError, match=rf"pixels \(N, 64, 96, 3\), got {got};"):
            next(images_in_data_file(path, 1, HW))


def test_as_many_images_as_asked_for_are_read(drawn_coco, tmp_path):
    path = tmp_path / "cal.h5"
    write_data_file(path, images_of(drawn_coco, 2, HW), HW)
    assert len(list(images_in_data_file(path, 1, HW))) == 1
    assert len(list(images_of(drawn_coco, 1, HW))) == 1
    with pytest.raises(CalibrationError, match="--batches"):
        next(images_in_data_file(path, 3, HW))
