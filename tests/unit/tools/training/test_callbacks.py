"""The stop at a loss that is no number, and what the first step keeps to itself."""

import math
import os

import pytest

from bodypose_tools.training.callbacks import QuietFirstStep, StopOnNaN
from bodypose_tools.training.checkpoint import TrainingError
from bodypose_tools.training.train import train
from tests.unit.tools.training.test_train import from_network, spec_for


class TwoImagesABatch:
    def image_ids(self, epoch: int, step: int) -> list[int]:
        return [100 * epoch + 10 * step, 100 * epoch + 10 * step + 1]


def guard(epoch: int = 2) -> StopOnNaN:
    made = StopOnNaN(TwoImagesABatch())
    made.on_epoch_begin(epoch)
    return made


def test_the_images_of_the_first_batch_without_a_loss_are_named():
    stop = guard()
    stop.on_train_batch_end(0, {"loss": 3.0})
    with pytest.raises(TrainingError, match="got nan in epoch 3, step 2, images 210, 211; check"):
        stop.on_train_batch_end(1, {"loss": math.nan})


def test_batches_reported_in_another_order_change_nothing():
    stop = guard()
    stop.on_train_batch_end(2, {"loss": math.inf})  # may be batch 1's doing: that is not known yet
    stop.on_train_batch_end(0, {"loss": 3.0})
    with pytest.raises(TrainingError, match="got inf in epoch 3, step 2, images 210, 211"):
        stop.on_train_batch_end(1, {"loss": math.inf})
    with pytest.raises(TrainingError, match="step 2"):
        stop.on_train_batch_end(3, {"loss": math.inf})


def test_a_new_epoch_starts_anew():
    stop = guard()
    stop.on_train_batch_end(0, {"loss": 1.0})
    stop.on_epoch_begin(3)
    with pytest.raises(TrainingError, match="epoch 4, step 1, images 300, 301"):
        stop.on_train_batch_end(0, {"loss": math.nan})


def test_only_known_lines_of_the_first_step_are_left_out(capfd):
    quiet = QuietFirstStep()
    for batch in range(2):
        quiet.on_train_batch_begin(batch)
        os.write(2, b"E0000 util.cc:131] oneDNN supports DT_HALF only on platforms\nnew\n")
        quiet.on_train_batch_end(batch)

    assert capfd.readouterr().err.splitlines() == [
        "new",
        "E0000 util.cc:131] oneDNN supports DT_HALF only on platforms",
        "new",
    ]


def test_a_first_step_that_fails_loses_no_line(capfd):
    quiet = QuietFirstStep()
    quiet.on_train_batch_begin(0)
    os.write(2, b"why\n")
    quiet.close()

    assert capfd.readouterr().err == "why\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_training_that_explodes_stops_and_names_its_images(drawn_coco, tiny_keras, tmp_path):
    schedule = {"base_learning_rate": 1e30, "min_learning_rate": 1e30}
    changes = {"optimizer": {"learning_rate_schedule": schedule}, **from_network(tiny_keras)}
    spec = spec_for(drawn_coco, 30, **changes)
    with pytest.raises(TrainingError, match=r"got (nan|-?inf) in epoch \d+, step 1, images [12], "):
        train(spec, tmp_path, resume=False, say=lambda line: None)
