import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from bodypose_tools.data.coco import DatasetError, read_coco
from bodypose_tools.data.labels import UNKNOWN, LabelSettings
from bodypose_tools.training.samples import SampleSettings, make_sample
from bodypose_tools.training.spec import AugmentationConfig
from bodypose_tools.training.stream import SampleStream, halved
from pose_runtime.skeleton import BODYPOSE_18
from tests.drawn import DRAWN, HEIGHT, WIDTH

SETTINGS = SampleSettings(BODYPOSE_18, (HEIGHT, WIDTH), LabelSettings(), AugmentationConfig())
PLAIN = replace(SETTINGS, augmentation=AugmentationConfig(identity=True))


@pytest.fixture(scope="module")
def records(drawn_coco):
    return read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)


def test_without_augmentation_the_image_is_letterboxed_and_nothing_else(records):
    pixels, target = make_sample(records[0], PLAIN, np.random.default_rng(0))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert target.heatmaps.shape == (HEIGHT // 4, WIDTH // 4, 20)
    assert target.affinity.shape == (HEIGHT // 8, WIDTH // 8, 38)
    nose = DRAWN[1][0][0]
    row, column = np.unravel_index(target.heatmaps[:, :, 0].argmax(), (HEIGHT // 4, WIDTH // 4))
    assert (row, column) == (int(nose[1] // 4), int(nose[0] // 4))
    assert target.mask.all()
    assert np.allclose(target.people[0, 1, :2], nose[:2])


def test_the_middle_of_a_person_is_the_middle_of_its_box(records):
    target = make_sample(records[0], PLAIN, np.random.default_rng(0))[1]
    x, y, width, height = records[0].boxes[0]
    assert np.allclose(target.people[0, 0], (x + width / 2, y + height / 2, 1))
    centre = target.heatmaps[:, :, 19]
    assert centre[int(target.people[0, 0, 1] // 4), int(target.people[0, 0, 0] // 4)] > 0.8


def test_a_joint_without_a_label_is_unknown_in_its_persons_box_and_nowhere_else(records):
    record = records[0]
    joints = record.joints.copy()
    joints[0, 0] = 0  # the first person's nose
    without = replace(record, joints=joints)
    nose, eye = (
        make_sample(without, PLAIN, np.random.default_rng(0))[1].heatmaps[:, :, joint]
        for joint in (0, 14)
    )
    x, y, width, height = record.boxes[0]
    rows, columns = np.nonzero(nose == UNKNOWN)
    assert len(rows) > 0.8 * width * height / 16
    assert columns.min() * 4 > x - 4
    assert columns.max() * 4 < x + width
    assert rows.min() * 4 > y - 4
    assert rows.max() * 4 < y + height
    assert (eye != UNKNOWN).all()


def test_the_same_seed_is_the_same_sample(records):
    one, two = (make_sample(records[1], SETTINGS, np.random.default_rng(7)) for _ in range(2))
    assert (one[0] == two[0]).all()
    assert all((a == b).all() for a, b in zip(one[1], two[1], strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_labels_move_with_the_pixels(records, seed):
    """The nose and neck of a drawn person are joined by a line of one colour, wherever it goes."""
    limb = BODYPOSE_18.limbs.index((1, 0))
    colour = np.random.default_rng(limb).integers(0, 256, 3)[::-1]
    inside = {"zoom_ratio_min": 0.7, "zoom_ratio_max": 0.8, "translate_max": 0.05}
    still = replace(
        SETTINGS,
        augmentation=AugmentationConfig(
            color_jitter=0, gray_prob=0, person_centric_prob=0, **inside
        ),
    )
    pixels, target = make_sample(records[0], still, np.random.default_rng(seed))
    nose, neck = target.heatmaps[:, :, 0], target.heatmaps[:, :, 1]
    assert min(nose.max(), neck.max()) > 0.7
    ends = [np.array(np.unravel_index(heat.argmax(), heat.shape)) * 4 + 2 for heat in (nose, neck)]
    middle = (sum(ends) / 2).astype(int)
    near = pixels[middle[0] - 9 : middle[0] + 10, middle[1] - 9 : middle[1] + 10].astype(int)
    assert np.abs(near - colour).sum(axis=2).min() < 60


def test_a_mirrored_image_has_its_sides_swapped(records):
    def shoulders(flip: float) -> list[int]:
        flipped = AugmentationConfig(
            flip_lr_prob=flip,
            rotate_deg_max=0,
            translate_max=0,
            zoom_ratio_min=1,
            zoom_ratio_max=1,
            person_centric_prob=0,
        )
        still = replace(SETTINGS, augmentation=flipped)
        heatmaps = make_sample(records[0], still, np.random.default_rng(0))[1].heatmaps
        return [int(heatmaps[:, :, joint].max(axis=0).argmax()) for joint in (2, 5)]

    right, left = shoulders(0)
    mirrored_right, mirrored_left = shoulders(1)
    last = WIDTH // 4 - 1
    assert right < left
    assert [mirrored_right, mirrored_left] == pytest.approx([last - left, last - right], abs=1)


def some_batches(
    records, workers: int, first_epoch: int, cache_mib: int = 0
) -> Iterator[np.ndarray]:
    with SampleStream(
        records, SETTINGS, batch_size=2, seed=3, workers=workers, cache_mib=cache_mib
    ) as stream:
        for pixels, _ in islice(stream.batches(first_epoch), 3):
            yield pixels


def test_batches_depend_on_the_seed_and_the_epoch_but_not_on_the_workers(records):
    one = list(some_batches(records, workers=1, first_epoch=0))
    two = list(some_batches(records, workers=2, first_epoch=0))
    cached = list(some_batches(records, workers=1, first_epoch=0, cache_mib=1))
    later = list(some_batches(records, workers=1, first_epoch=1))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert all((a == b).all() for a, b in zip(one, cached, strict=True))
    assert all((a == b).all() for a, b in zip(one[1:], later, strict=False))
    assert not (one[0] == one[1]).all()


def test_a_worker_that_was_killed_is_an_error_and_not_a_long_wait(records, monkeypatch):
    monkeypatch.setattr("bodypose_tools.training.stream._PATIENCE_S", 0.1)
    with SampleStream(records, SETTINGS, batch_size=2, seed=3, workers=1) as stream:
        batches = stream.batches()
        next(batches)
        stream._processes[0].kill()
        with pytest.raises(DatasetError, match=r"exit codes \[-9\].*lower workers"):
            list(islice(batches, 100))


def test_a_stream_that_nobody_reads_on_ends_at_once(records, monkeypatch):
    """Also while its thread waits for a batch that no worker was asked for."""
    monkeypatch.setattr("bodypose_tools.training.stream._PATIENCE_S", 600)
    with SampleStream(records, SETTINGS, batch_size=2, seed=3, workers=1) as stream:
        next(stream.batches())
        waiting = stream._ahead.submit(lambda: [stream._next_done() for _ in range(100)])
        while not waiting.running():  # after the next batch, which is copied ahead
            time.sleep(0.01)
    assert not any(thread.is_alive() for thread in stream._ahead._threads)
    with pytest.raises(DatasetError, match="got the end of the stream"):
        waiting.result()


def test_float16_is_what_numpy_makes_of_it():
    rng = np.random.default_rng(0)
    for scale in (0, 1, 1e-4, 3):
        values = (scale * rng.uniform(-1, 1, (12, 10, 7))).astype(np.float32)
        values[values < -0.5] = UNKNOWN
        for view in (values, values.transpose(1, 0, 2)):
            assert (halved(view) == view.astype(np.float16)).all()


def test_an_image_of_another_size_than_annotated_is_refused(records):
    wrong = replace(records[0], image_hw=(10, 10))
    with pytest.raises(DatasetError, match=r"expected \(10, 10\) as annotated"):
        make_sample(wrong, SETTINGS, np.random.default_rng(0))
