"""Other settings for a repository that a server follows: its configs are written anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from bodypose_tools.files.atomic_files import atomic_path, disk_errors
from bodypose_tools.files.json_records import RecordError
from pose_runtime.errors import first_line

from .build import (
    CONFIG,
    RepositoryError,
    changes_since_build,
    repository_record,
    serving_of_repository,
    spec_of,
    version_in_use,
    write_repository_record,
)
from .lock import writing
from .pbtxt import (
    GROUPING,
    NETWORK,
    PREPROCESS,
    STEPS,
    THREADS,
    ensemble_of,
    read_config,
    render_config,
)
from .settings import NetworkBackend
from .tuning import UNTUNED, Tuning


def tuning_of(repository: Path) -> Tuning:
    """The settings that a repository's configs have now.

    Raises:
        RecordError: it is no repository of `tools build-repo`.
    """
    try:
        return _tuning_in(repository)
    except (text_format.ParseError, OSError, IndexError, ValueError) as error:
        raise RecordError(
            f"{repository}: expected configs as `tools build-repo` writes them, got"
            f" {first_line(error)}; run it again"
        ) from error


def _tuning_in(repository: Path) -> Tuning:
    backend = serving_of_repository(repository).backend
    configs = {name: read_config(repository / name / CONFIG) for name in STEPS}
    counts = {name: configs[name].instance_group[0].count for name in STEPS}
    network = configs[NETWORK]
    given = {name: value.string_value for name, value in network.parameters.items()}
    plan_in_python = given.get("runtime") == "tensorrt"
    on_gpu = "runtime" in given and given["runtime"] != "openvino"
    on_gpu = on_gpu or backend is NetworkBackend.TENSORRT
    batches = given.get("batches", given.get("batch", str(UNTUNED.network_batch)))
    if plan_in_python:
        batches = str(network.max_batch_size)
    threads = next((given[name] for name in THREADS.values() if name in given), "0")
    return Tuning(
        preprocess_instances=counts[PREPROCESS],
        network_instances=counts[NETWORK],
        grouping_instances=counts[GROUPING],
        network_batch=int(batches.rpartition(",")[2]),
        requests_at_once=_requests_at_once(configs[GROUPING]),
        queue_delay_us=network.dynamic_batching.max_queue_delay_microseconds,
        threads=int(threads),
        precision=given.get("precision", "f16" if on_gpu else UNTUNED.precision),
        device="cuda" if on_gpu else "cpu",
        decodes_on=given.get("decodes_on", "cpu"),
    )


def retune(repository: Path, tuning: Tuning) -> Mapping[str, Any]:
    """Write the configs of the steps for other settings; a server that polls loads them.

    Returns:
        The steps' configs, by name.

    Raises:
        RepositoryError: files have changed since the build.
        RepositoryInUse, RecordError: as `versions.promote`.
    """
    with writing(repository), disk_errors(repository):
        if changes := changes_since_build(repository):
            raise RepositoryError(changes[0])
        version = version_in_use(repository)
        serving = replace(serving_of_repository(repository), tuning=tuning)
        spec = spec_of(repository, version)
        for step in ensemble_of(spec, serving, version).steps:
            path, text = repository / step.name / CONFIG, render_config(step, serving.triton)
            if path.read_text() != text:  # a polling server would load an equal file again
                with atomic_path(path) as temporary:
                    temporary.write_text(text)
        write_repository_record(repository, repository_record(repository))
    return {name: read_config(repository / name / CONFIG) for name in STEPS}


def _requests_at_once(config: Any) -> int:
    return int(config.max_batch_size) if config.HasField("dynamic_batching") else 1
