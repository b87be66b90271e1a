"""What is left of a run that was killed, and what becomes of it."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.training.checkpoint import Checkpoint, RunState, TrainingError, restore
from bodypose_tools.training.spec import TrainSpec
from bodypose_tools.training.train import train
from tests.unit.tools.training.test_train import from_network, spec_for

# Trains, and is killed by the system's own signal at the first batch after so many logged epochs.
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from bodypose_tools.training.spec import TrainSpec
from bodypose_tools.training.stream import SampleStream
from bodypose_tools.training.train import train

def batches(stream, first_epoch=0):
    log = Path(sys.argv[2], "log.csv")
    for batch in whole(stream, first_epoch):
        if log.exists() and len(log.read_text().splitlines()) > int(sys.argv[3]):
            Path("workers").write_text(" ".join(str(p.pid) for p in stream._processes))
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

if __name__ == "__main__":
    whole = SampleStream.batches
    SampleStream.batches = batches
    spec = TrainSpec.model_validate_json(Path(sys.argv[1]).read_text())
    train(spec, Path(sys.argv[2]), resume=False, say=print)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_killed_in_mid_epoch_goes_on_as_if_it_had_not_been(drawn_coco, tiny_keras, tmp_path):
    folder = many_images(drawn_coco, tmp_path / "set")
    changes = {"checkpoint_n_epoch": 2, "optimizer": {"ema_momentum": 0.9}}
    spec = spec_for(folder, 4, **changes, **from_network(tiny_keras))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(spec, whole, resume=False, say=lambda line: None)

    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    (tmp_path / "run.py").write_text(KILLED_RUN)
    killed = subprocess.run(
        [sys.executable, "run.py", "spec.json", broken, "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert killed.returncode == -9, killed.stderr
    assert len(losses(broken)) == 3  # one more than the checkpoint knows
    assert json.loads((broken / "checkpoint.json").read_text())["epoch"] == 2
    said: list[str] = []
    with pytest.raises(TrainingError, match="add --resume"):
        train(spec, broken, resume=False, say=said.append)
    train(spec, broken, resume=True, say=said.append)

    assert [line.split()[1] for line in said if line.startswith("epoch")] == ["3/4", "4/4"]
    assert losses(broken) == losses(whole)  # to the last bit
    one, other = (Artifact.open(run / "best.keras").settings["val"] for run in (whole, broken))
    assert one == other
    assert all(is_gone(int(pid)) for pid in (tmp_path / "workers").read_text().split())


def many_images(drawn_coco: Path, folder: Path) -> Path:
    """The drawn images, four times each."""
    folder.mkdir()
    content = json.loads((drawn_coco / "people.json").read_text())
    images, people = [], []
    for copy in range(4):
        for image in content["images"]:
            images.append({**image, "id": 10 * copy + image["id"]})
            (folder / image["file_name"]).write_bytes(
                (drawn_coco / image["file_name"]).read_bytes()
            )
        for person in content["annotations"]:
            image_id = 10 * copy + person["image_id"]
            people.append({**person, "id": len(people) + 1, "image_id": image_id})
    content |= {"images": images, "annotations": people}
    (folder / "people.json").write_text(json.dumps(content))
    return folder


def losses(run: Path) -> list[float]:
    lines = (run / "log.csv").read_text().splitlines()
    return [float(row["loss"]) for row in csv.DictReader(lines)]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or does within seconds."""
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.1)
    return False


def small_model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, name="dense")])
    model.compile("adam", "mse")
    return model


def checkpoint(spec: TrainSpec, folder: Path, state: RunState, model: keras.Model) -> Checkpoint:
    made = Checkpoint(spec, folder, state)
    made.set_model(model)
    return made


def test_the_checkpoint_of_the_state_is_never_written_to(drawn_coco, tmp_path):
    spec = spec_for(drawn_coco, 5, checkpoint_n_epoch=2)
    state, model = RunState(), small_model()
    written = checkpoint(spec, tmp_path, state, model)
    for epoch in range(5):  # epochs 2, 4 and, being the last, 5
        model.layers[-1].set_weights([np.full((1, 1), epoch + 1.0), np.zeros(1)])
        written.on_epoch_end(epoch)
        before = restored_weight(tmp_path)
        state.epoch = epoch + 1
        written.commit()
        after = restored_weight(tmp_path)
        assert (before, after) == {1: (None, 2), 3: (2, 4), 4: (4, 5)}.get(epoch, (before, before))


def restored_weight(folder: Path) -> float | None:
    model = small_model()
    state = restore(model, folder)
    return float(model.layers[-1].get_weights()[0][0, 0]) if state.weights else None


def test_weights_that_are_no_numbers_are_not_kept(drawn_coco, tmp_path):
    spec = spec_for(drawn_coco, 2, checkpoint_n_epoch=1)
    model = small_model()
    model.layers[-1].set_weights([np.full((1, 1), np.nan), np.zeros(1)])
    with pytest.raises(TrainingError, match=r"dense/kernel: expected numbers after epoch 1, got"):
        checkpoint(spec, tmp_path, RunState(), model).on_epoch_end(0)
    assert not list(tmp_path.iterdir())
