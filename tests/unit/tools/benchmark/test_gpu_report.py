"""A GPU's record becomes tables, a row and a picture; what was not measured is left out."""

from bodypose_tools.benchmark.gpu_report import draw_clients, gpu_section, served_at_best

STEP = {
    "clients": 64,
    "images_per_s": 2345.6,
    "latency_ms": {"median": 25.1, "p99": 38.2},
    "cores_per_1000_images_per_s": 4.88,
}
SERVED = {"one_client": {"latency_ms": {"median": 5.4}}, "by_clients": [STEP]}
MADE = {"made": {"machine": {"gpu": "NVIDIA H200", "cores": 16}}}
RECORD = {
    "networks": {
        "f16": {
            "first_start_s": 200.4,
            "next_start_s": 70.2,
            "card_memory_gib": 5.46,
            "by_batch": {
                "1": {"p50_ms": 1.2, "images_per_s": 831},
                "8": {"p50_ms": 2.9, "images_per_s": 2785},
            },
            "random_order": {"p99_over_steady_p99": 1.042},
        }
    },
    "decoding": {
        "photos": 250,
        "by_the_card": 192,
        "largest_difference": 1,
        "by_batch": {"32": {"decoded and letterboxed": {"images_per_s": 10919}}},
    },
    "around": SERVED,
    "ensemble": SERVED,
    "ensemble-card": {**SERVED, "by_clients": [{**STEP, "images_per_s": 4001.0}]},
    "profile": {"batch": 64, "ms_by_kind": {"copies": 1.0, "dense convolutions": 3.0}},
    "cards": {
        "1": {"by_clients": [{"images_per_s": 900.4}, {"images_per_s": 1000.4}]},
        "2": {"by_clients": [{"images_per_s": 1900.4}, {"images_per_s": 1800.0}]},
        "times_as_fast": 1.9,
    },
    **MADE,
}


def test_every_subject_has_its_line():
    page = gpu_section(RECORD, "results")

    assert "| f16 | 831 | 2,785 | 1.20 ms | 200 s, 70 s | 5.5 GiB | 1.04 times" in page
    assert "takes 192 of 250 COCO photos" in page
    assert "| card | real | 4,001 | 64 | 25 ms, 38 ms | 4.9 | 5.4 ms |" in page
    assert "| CPU | free | 2,346 |" in page
    assert "4.0 ms on the card: dense convolutions 75%, copies 25%" in page
    assert "two cards: 1.90 times the images/s of one, 1,900 against 1,000." in page
    assert "![images/s and latency by clients](results/gpu-clients.png)" in page


def test_what_was_not_measured_has_no_line():
    page = gpu_section(MADE, "results")

    assert "NVIDIA H200" in page
    assert "|" not in page
    assert "gpu-clients" not in page


def test_the_best_rate_says_who_decoded(tmp_path):
    assert served_at_best(RECORD) == (4001.0, "card")
    assert served_at_best(MADE) is None


def test_the_picture_has_the_curves_of_the_ensembles(tmp_path):
    drawn = draw_clients(RECORD, tmp_path)

    assert drawn is not None
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert draw_clients(MADE, tmp_path) is None
