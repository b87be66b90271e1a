"""The server has the AP of its model, in ONNX and in Keras."""

import pytest

from bodypose_client.evaluation import evaluate_server, open_split
from bodypose_client.pose_client import PoseClient
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.runtimes.predictors import open_predictor

pytestmark = pytest.mark.triton

KERAS_MODEL = SHIPPED_MODEL.with_suffix(".keras")


@pytest.mark.coco
@pytest.mark.parametrize(("protocol", "limit", "least"), [("grpc", None, 0.37), ("http", 60, 0.3)])
def test_the_server_has_the_ap_of_its_model(shipped, coco, protocol, limit, least):
    """By gRPC over all images; HTTP, which only brings the same bytes, over some of them."""
    annotations, images = coco / "person_keypoints_val.json", coco / "val"
    address = shipped.grpc_url if protocol == "grpc" else shipped.http_url
    with PoseClient(f"{protocol}://{address}") as client:
        served = evaluate_server(client, open_split(annotations, images, limit), in_flight=4)
    assert served.metrics.images == (limit or 250)
    assert served.metrics.ap >= least
    for model in (SHIPPED_MODEL, KERAS_MODEL) if limit is None else (SHIPPED_MODEL,):
        predict, spec, _ = open_predictor(model)
        offline = evaluate_model(predict, spec, annotations, images, limit)
        assert offline.ap == pytest.approx(served.metrics.ap, abs=0.001)
