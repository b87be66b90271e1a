"""Where the tests of a module are: in a file of its name in its room, or where a line says."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.unit.test_imports import PLACES, arrows, imported_by, modules

TESTS = Path(__file__).parents[1]
# Values that a person may choose, and constants: whoever uses them tests them.
NEEDS_NO_TESTS = ("settings", "__init__")

# Package -> tests -> the modules that they test, too.
ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "pose_runtime": {
        "integration/test_server.py": "openvino_network",  # in the server's own processes
        "unit/pose_runtime/test_door.py": "metrics",
        "unit/pose_runtime/test_grouping.py": "joining",
        "unit/pose_runtime/test_images.py": "orientation",
        "unit/tools/runtimes/test_engine.py": "tensorrt_network",
    },
    "bodypose_client": {
        "integration/test_grpc_channels.py": "wire.grpc_channels",
        "unit/client/commands/test_describe.py": "blocking wire.statistics",
        "unit/client/commands/test_evaluate.py": "commands.check_images commands.interrupt"
        " evaluation pictures.contact_sheet pictures.worst_cases",
        "unit/client/commands/test_infer.py": "commands.connection files.inference"
        " files.result_text files.run",
        "unit/tools/files/test_places.py": "files.outputs",
        "unit/client/demo/test_server.py": "commands.demo demo.link demo.steps",
        "unit/client/files/test_picture_file.py": "files.output_file",
        "unit/client/pictures/test_drawing.py": "pictures.sides",
        "unit/tools/scenes/test_examples.py": "pictures.examples",
        "unit/client/scoring/test_oks_matches.py": "scoring.comparison",
        "unit/client/test_pose_client.py": "session",
        "unit/client/video/test_people.py": "commands.video video.files video.labels",
        "unit/client/wire/test_access.py": "wire.listener wire.trace",
        "unit/client/wire/test_connection.py": "errors wire.connect wire.deadline wire.grpc"
        " wire.http wire.http_asyncio wire.http_messages",
        "unit/client/wire/test_http_body.py": "wire.tensor_bytes",
    },
    "bodypose_loadtest": {
        "timed/test_loadtest_honesty.py": "generator.__main__ generator.self_check"
        " generator.senders generator.users headroom known_process locustfile workers",
        "integration/test_loadtest_command.py": "processes server_process",
        "unit/loadtest/test_cli.py": "run",
        "unit/loadtest/test_over_time.py": "groups images machine",
        "unit/loadtest/test_report.py": "charts perf_csv records server_probe",
        "unit/loadtest/test_result.py": "errors",
        "unit/loadtest/test_scenarios.py": "arrivals orders",
        "unit/loadtest/test_sending.py": "generator.bodies known_server",
        "unit/loadtest/test_verdict.py": "comparison knee plan slo",
    },
    "bodypose_tools": {
        "integration/test_around.py": "benchmark.around benchmark.free_network",
        "integration/test_shipped_model.py": "server.demo",
        "integration/test_own_skeleton.py": "training.commands",
        "unit/tools/adoption/test_adopt.py": "adoption.commands adoption.foreign_graph"
        " adoption.fields_graph adoption.options adoption.presets adoption.skeletons"
        " export.decoding_graph graphs.constants",
        "unit/tools/adoption/test_labelled.py": "adoption.sampling",
        "long/test_several_processes.py": "training.processes",
        "long/test_soak.py": "soak.run",
        "unit/client/commands/test_entry.py": "soak.commands",
        "unit/tools/deploying/test_files.py": "deploying.commands deploying.values",
        "unit/tools/benchmark/test_benchmark.py": "options benchmark.client_side"
        " benchmark.commands benchmark.conditions benchmark.crowds benchmark.decoding"
        " benchmark.gpu benchmark.in_process benchmark.movenet benchmark.networks"
        " benchmark.plots benchmark.preprocessing benchmark.report benchmark.rivals"
        " benchmark.run benchmark.runtimes benchmark.serving data.photos",
        "long/test_quantisers.py": "benchmark.quantiser_runs.model_optimizer"
        " benchmark.quantiser_runs.onnx_runtime benchmark.quantiser_runs.openvino_nncf",
        "unit/tools/bulk/test_run.py": "bulk.commands bulk.jobs bulk.processes bulk.worker",
        "unit/tools/data/test_annotation_check.py": "data.skeletons",
        "unit/tools/engines/test_build.py": "engines.commands engines.options graphs.batch_norm"
        " graphs.contract graphs.float16",
        "unit/tools/evaluation/test_inference.py": "evaluation.commands",
        "unit/tools/evaluation/test_modes.py": "evaluation.field_frames evaluation.oracle",
        "unit/tools/experiments/test_runs.py": "experiments.charts experiments.commands"
        " experiments.costs experiments.data_scaling experiments.views",
        "unit/tools/export/test_onnx_from_keras.py": "export.commands export.options export.run"
        " export.source",
        "unit/tools/files/test_shipped.py": "files.commands",
        "unit/tools/files/test_untrusted_files.py": "files.arrays",
        "unit/tools/networks/test_centres.py": "networks.gather",
        "unit/tools/pages/test_check.py": "pages.blocks",
        "unit/tools/networks/test_decoding.py": "data.labels",
        "unit/tools/networks/test_network.py": "networks.resizing",
        "unit/tools/pretrained/test_efficientnet.py": "pretrained.commands pretrained.movenet"
        " pretrained.movenet_heads pretrained.torch_file pretrained.weight_file",
        "unit/tools/networks/test_backbones.py": "pretrained.movenet_package",
        "unit/tools/pretrained/test_interpolation.py": "networks.image_pyramid",
        "unit/tools/pruning/test_loop.py": "pruning.plan",
        "unit/tools/pruning/test_pareto.py": "pruning.pareto_picture",
        "unit/tools/pruning/test_prune.py": "networks.keras_files pruning.commands",
        "unit/tools/quantisation/test_calibration.py": "quantisation.calibration_files",
        "unit/tools/quantisation/test_gate.py": "export.lower_precision quantisation.commands",
        "unit/tools/quantisation/test_placement.py": "graphs.quantised quantisation.qdq",
        "unit/tools/repository/test_build.py": "repository.check repository.commands",
        "unit/tools/benchmark/test_tune.py": "repository.tuning",
        "unit/tools/repository/test_pbtxt.py": "repository.targets",
        "unit/tools/repository/test_versions.py": "repository.lock",
        "unit/tools/runtimes/test_engine.py": "runtimes.predictor runtimes.predictors",
        "unit/tools/runtimes/test_network_speed.py": "runtimes.clock",
        "unit/tools/scenes/test_body.py": "scenes.stances",
        "unit/tools/scenes/test_dataset.py": "scenes.commands",
        "unit/tools/scenes/test_picture.py": "scenes.backdrops",
        "unit/tools/server/test_command.py": "server.commands server.wheel",
        "unit/tools/server/test_embedded.py": "server.guard server.process server.pulse",
        "unit/tools/server/test_folder.py": "server.readiness",
        "unit/tools/soak/test_load.py": "soak.watch",
        "unit/tools/training/test_callbacks.py": "training.setup training.sheets"
        " training.validation",
        "unit/tools/training/test_samples.py": "training.stream",
        "unit/tools/test_cli.py": "pages.commands",
        "unit/tools/training/test_train.py": "training.loss training.optimizers",
    },
}
# These start the programs that they test, so their imports do not show what runs.
START_PROGRAMS = ("integration", "long", "timed")


def lines() -> Iterator[tuple[str, str]]:
    """Module and tests of every line of `ELSEWHERE`."""
    for package, places in ELSEWHERE.items():
        for tests, names in places.items():
            yield from ((f"{package}.{name}", tests) for name in names.split())


def mirror(module: str) -> Path:
    """The file where the tests of a module are expected."""
    package, *rooms, name = module.split(".")
    return TESTS / "unit" / package.removeprefix("bodypose_") / Path(*rooms) / f"test_{name}.py"


def reached(tests: Path) -> set[str]:
    """Modules that a file of tests imports, itself or through others, with its conftest files."""
    files = [
        tests,
        *(folder / "conftest.py" for folder in tests.parents if TESTS in folder.parents),
    ]
    found: set[str] = set()
    left = {name for file in files if file.is_file() for name in _named(file)}
    graph = arrows()
    while left:
        name = left.pop()
        found.add(name)
        left |= graph.get(name, set()) - found
    return found


def _named(file: Path) -> set[str]:
    return {name for _, name in imported_by(ast.parse(file.read_text()), []) if name in modules()}


def test_every_module_has_tests_in_its_place_or_a_line_that_says_where():
    assert set(ELSEWHERE) == set(PLACES)
    told = dict(lines())
    homeless = [
        f"{module}: expected {mirror(module).relative_to(TESTS)}, or a line in {__name__}"
        for module, file in modules().items()
        if file.stem not in NEEDS_NO_TESTS and not mirror(module).is_file() and module not in told
    ]
    assert homeless == []


def test_a_line_goes_with_its_module():
    told = [module for module, _ in lines()]
    assert len(set(told)) == len(told)
    assert set(told) - set(modules()) == set()


@pytest.mark.parametrize("tests", sorted({tests for _, tests in lines()}))
def test_the_tests_that_a_line_names_come_to_its_modules(tests):
    file = TESTS / tests
    assert file.is_file()
    if not tests.startswith(START_PROGRAMS):
        named = {module for module, other in lines() if other == tests}
        assert named - reached(file) == set()


def test_long_files_begin_first_by_names_that_are_there():
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []
