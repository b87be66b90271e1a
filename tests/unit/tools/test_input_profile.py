"""The share of the device's own speed that training reaches with real data."""

import pytest

from tools.input_profile import profile_input

from .test_train import spec_for


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_profile_compares_real_data_with_kept_batches(drawn_coco):
    said: list[str] = []
    record = profile_input(spec_for(drawn_coco, 2), steps=2, say=said.append)
    rates = record["images_per_second"]
    assert min(rates.values()) > 0
    assert record["share"] == pytest.approx(
        rates["real_data"] / rates["batches_on_device"], rel=0.02
    )
    assert (record["batch_size"], record["workers"], record["backend"]) == (2, 1, "tensorflow")
    assert [line.split(",")[0] for line in said] == [f"round {n}/3" for n in (1, 2, 3)]
