import json

from bodypose_client.scoring.coco_eval import CocoMetrics
from bodypose_client.scoring.record import evaluation_record

METRICS = CocoMetrics(0.5, 0.6, 0.7, 0.1, 0.2, 0.3, 0.4, 0.8, 0.9, -1.0, images=4, people=7)


def test_a_record_has_the_numbers_their_split_and_their_model():
    record = evaluation_record(METRICS, "val.json", {"name": "net.onnx"}, seconds=1.5)

    assert json.loads(json.dumps(record)) == {
        "schema": "bodypose-evaluation/1",
        "split": "val.json",
        "images": 4,
        "people": 7,
        "metrics": METRICS.numbers,
        "model": {"name": "net.onnx"},
        "seconds": 1.5,
    }
