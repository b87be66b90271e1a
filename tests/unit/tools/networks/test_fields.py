"""Outputs in their one order."""

import numpy as np
import pytest

from bodypose_tools.networks.fields import SIDE_MULTIPLE, STRIDE, Fields


def outputs(*channels):
    return [np.full((1, 4, 6, count), number) for number, count in enumerate(channels)]


def numbers(fields):
    return [None if each is None else float(each.flat[0]) for each in fields]


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_heatmaps_come_before_affinity_fields_stage_by_stage(stages):
    fields = Fields.of(outputs(*[5] * stages, *[6] * stages))

    assert numbers(fields.heatmaps) == list(range(stages))
    assert numbers(fields.affinity) == list(range(stages, 2 * stages))
    assert (fields.centre, fields.offsets) == (None, None)
    last = fields.last_stage()
    assert list(last) == ["heatmaps", "affinity"]
    assert numbers(last.values()) == [stages - 1, 2 * stages - 1]


@pytest.mark.parametrize("stages", [1, 2])
def test_centres_and_offsets_are_the_last(stages):
    fields = Fields.of(outputs(*[5] * stages, *[6] * stages, 1, 8))

    assert numbers(fields.affinity) == list(range(stages, 2 * stages))
    last = fields.last_stage()
    assert list(last) == ["heatmaps", "affinity", "centre", "offsets"]
    assert numbers(last.values()) == [
        *(stages - 1, 2 * stages - 1),
        *(2 * stages, 2 * stages + 1),
    ]


def test_a_cell_is_eight_pixels_and_the_deepest_one_32():
    assert STRIDE == 8
    assert SIDE_MULTIPLE == {"bodypose-s": 32, "bodypose-vgg19": 8}
