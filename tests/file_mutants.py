"""Mutants of files of every format that others may give us, half of them past the syntax.

Each generator takes a right file's bytes and a seeded `random.Random`, and gives another file's.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.fuzz import hostile_images
from tests.json_mutants import seeded_mutant

Mutate = Callable[[bytes, random.Random], bytes]

DEEP = 20_000  # brackets


def broken(content: bytes, chance: random.Random) -> bytes:
    """What no parser should like: cut, flipped, doubled, filled, nested, or something else."""
    how = chance.randrange(8)
    at = chance.randrange(len(content) + 1)
    if how == 0:
        return content[:at]
    if how == 1:
        return content[:at] + bytes(chance.randrange(1, 64)) + content[at:]
    if how == 2:
        return content[:at] + content[at + chance.randrange(1, 64) :]
    if how == 3:
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 20)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        return bytes(changed)
    if how == 4:
        return content + content
    if how == 5:
        return chance.choice([b"", b"\x00" * 1000, b"\xff\xfe{}", b"null", b"NaN", b"[]", b"{}"])
    if how == 6:
        return chance.choice([b"[", b'{"a":', b"- "]) * DEEP
    return chance.randbytes(chance.randrange(1, 2000))


def json_mutant(content: bytes, chance: random.Random) -> bytes:
    try:
        right = json.loads(content)
    except (ValueError, RecursionError):  # a mutant already
        return broken(content or b"{}", chance)
    if chance.random() < 0.4 or not isinstance(right, dict | list) or not right:
        return broken(content, chance)
    return json.dumps(seeded_mutant(right, chance)).encode()


def yaml_mutant(content: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.4:
        return broken(content, chance)
    mutant = seeded_mutant(yaml.safe_load(content), chance)
    return yaml.safe_dump(mutant).encode()


def text_mutant(content: bytes, chance: random.Random) -> bytes:
    """Lines that are missing, doubled, swapped or have other words."""
    if chance.random() < 0.4:
        return broken(content, chance)
    lines = content.splitlines(keepends=True)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(lines))
        how = chance.randrange(4)
        if how == 0 and len(lines) > 1:
            del lines[at]
        elif how == 1:
            lines.insert(at, lines[chance.randrange(len(lines))])
        elif how == 2:
            words = lines[at].split(b" ")
            words[chance.randrange(len(words))] = chance.choice([b"", b"nan", b"-1", b"9" * 40])
            lines[at] = b" ".join(words)
        else:
            chance.shuffle(lines)
    return b"".join(lines)


def npy_mutant(content: bytes, chance: random.Random) -> bytes:
    """Another dtype, shape or order in an array's header, with the same numbers behind it."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    file = io.BytesIO()
    header = {
        "descr": chance.choice(["<f4", ">i8", "|u1", "|O", "<U9", "<c16", "<M8[s]", "?x", ""]),
        "fortran_order": chance.choice([True, False, None]),
        "shape": chance.choice([(), (0,), (-1,), (2**40,), array.shape[::-1], (1, *array.shape)]),
    }
    if chance.random() < 0.5:
        wrong = array.astype(chance.choice(["<f8", "<i2", "|b1"])).reshape(-1)
        np.save(file, wrong[: chance.randrange(wrong.size + 1)])
    else:
        try:
            np.lib.format.write_array_header_1_0(file, header)
        except (TypeError, ValueError):
            file.write(b"\x93NUMPY\x01\x00\x10\x00{'descr': None}  ")
        file.write(array.tobytes())
    return file.getvalue()


def _zip_mutant(
    content: bytes, chance: random.Random, inner: Callable[[str, bytes], bytes]
) -> bytes:
    """One member changed by `inner`, gone, renamed, doubled or added."""
    if chance.random() < 0.3:
        return broken(content, chance)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = chance.randrange(len(members))
    name, data = members[at]
    how = chance.randrange(6)
    if how == 0:
        del members[at]
    elif how == 1:
        members[at] = (chance.choice(["../x", "/etc/x", name + "x", "x" * 200, ""]), data)
    else:
        members[at] = (name, inner(name, data))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for each, inside in members:
            archive.writestr(zipfile.ZipInfo(each or "x"), inside)
    return file.getvalue()


def zip_mutant(content: bytes, chance: random.Random) -> bytes:
    return _zip_mutant(content, chance, lambda _, data: broken(data, chance) if data else b"x")


def npz_mutant(content: bytes, chance: random.Random) -> bytes:
    def inner(_: str, data: bytes) -> bytes:
        return npy_mutant(data, chance) if chance.random() < 0.7 else broken(data, chance)

    return _zip_mutant(content, chance, inner)


def keras_mutant(content: bytes, chance: random.Random) -> bytes:
    """The graph in config.json, the weights in HDF5, or the archive itself."""

    def inner(name: str, data: bytes) -> bytes:
        if name.endswith(".json"):
            return json_mutant(data, chance)
        return hdf5_mutant(data, chance)

    return _zip_mutant(content, chance, inner)


def hdf5_mutant(content: bytes, chance: random.Random) -> bytes:
    """A data set gone, renamed, of another type or shape, or a group in its place."""
    if chance.random() < 0.4:
        return broken(content, chance)
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as stored:
        names: list[str] = []
        stored.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        if not names:
            return broken(content, chance)
        name = chance.choice(names)
        values = stored[name][()]
        how = chance.randrange(6)
        if how == 0:
            del stored[name]
        elif how == 1:
            stored.move(name, f"{name}_")
        elif how == 2:
            del stored[name]
            stored.create_group(name)
        elif how == 3:
            del stored[name]
            stored[name] = chance.choice(["text", 7, np.zeros((0,)), np.zeros((1, 1), ">f8")])
        elif how == 4:
            del stored[name]
            stored[name] = h5py.ExternalLink("/etc/hostname", "/x")
        else:
            flat = np.asarray(values).ravel()
            del stored[name]
            stored[name] = flat[: chance.randrange(flat.size + 1)]
    return file.getvalue()


def onnx_mutant(content: bytes, chance: random.Random) -> bytes:
    """A right protobuf with another graph: fields cleared, doubled, renamed, of other types."""
    import onnx

    if chance.random() < 0.4:
        return broken(content, chance)
    model = onnx.load_from_string(content)
    for _ in range(chance.randint(1, 3)):
        how = chance.randrange(9)
        graph = model.graph
        if how == 0 and graph.node:
            graph.node.remove(chance.choice(graph.node))
        elif how == 1 and graph.node:
            node = chance.choice(graph.node)
            node.op_type = chance.choice(["Conv", "Loop", "If", "Nothing", "", "Reshape", "Cast"])
        elif how == 2 and graph.node:
            node = chance.choice(graph.node)
            names = chance.choice([node.input, node.output])
            if names:
                names[chance.randrange(len(names))] = chance.choice(["", "nobody", node.output[0]])
        elif how == 3 and graph.initializer:
            tensor = chance.choice(graph.initializer)
            tensor.dims[:] = chance.choice([[], [-1], [2**40], [0], [1] * 20])
        elif how == 4 and graph.initializer:
            tensor = chance.choice(graph.initializer)
            tensor.data_type = chance.choice([0, 1, 2, 7, 8, 16, 17, 99])
        elif how == 5:
            value = chance.choice([*graph.input, *graph.output])
            kind = value.type.tensor_type
            kind.elem_type = chance.choice([0, 1, 2, 8, 9, 16, 77])
            if kind.shape.dim:
                kind.shape.dim[chance.randrange(len(kind.shape.dim))].dim_value = chance.choice(
                    [0, -5, 2**40, 3]
                )
        elif how == 6 and model.metadata_props:
            entry = chance.choice(model.metadata_props)
            entry.value = json_mutant(entry.value.encode() or b"{}", chance).decode("latin1")
        elif how == 7:
            model.ir_version = chance.choice([0, 3, 99, 2**40])
            if model.opset_import:
                model.opset_import[0].version = chance.choice([0, 1, 5, 99, -3])
        else:
            field = chance.choice(["input", "output", "node", "initializer"])
            graph.ClearField(field)
    return model.SerializeToString()


def tar_mutant(content: bytes, chance: random.Random) -> bytes:
    """A `.tgz` with one member gone, renamed, a link, or changed inside."""
    if chance.random() < 0.3:
        return broken(content, chance)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(each, archive.extractfile(each).read()) for each in archive if each.isfile()]
    at = chance.randrange(len(members))
    entry, data = members[at]
    how = chance.randrange(6)
    if how == 0:
        del members[at]
    elif how == 1:
        entry.name = chance.choice(["../../x", "package/x", "/etc/x"])
    elif how == 2:
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
    elif entry.name.endswith(".json"):
        members[at] = (entry, json_mutant(data, chance))
    else:
        members[at] = (entry, broken(data, chance))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for each, inside in members:
            each.size = len(inside) if each.isfile() else 0
            archive.addfile(each, io.BytesIO(inside))
    return file.getvalue()


def shard_mutant(content: bytes, chance: random.Random) -> bytes:
    """A tar of images with one member gone, doubled, of another kind or name, or changed inside."""
    if chance.random() < 0.3:
        return broken(content, chance)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = [(each, archive.extractfile(each).read()) for each in archive]
    at = chance.randrange(len(members))
    entry, data = members[at]
    how = chance.randrange(6)
    if how == 0:
        del members[at]
    elif how == 1:
        members.append(members[at])
    elif how == 2:
        entry.type = chance.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, b"S", b"9"])
        entry.linkname = chance.choice(["/etc/hostname", entry.name, "nobody.png", ""])
    elif how == 3:
        entry.name = chance.choice(["../x.png", "/x.png", "a" * 300 + ".png", "\udcff.png", ".png"])
    elif how == 4:
        entry.pax_headers = chance.choice(
            [{"size": "9" * 20}, {"path": "\n.png"}, {"GNU.sparse.map": "1,x"}, {"mtime": "nan"}]
        )
    else:
        members[at] = (entry, broken(data, chance))
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=chance.choice([0, 1, 2])) as archive:
        for each, inside in members:
            each.size = len(inside) if each.isreg() else 0
            try:
                archive.addfile(each, io.BytesIO(inside))
            except ValueError:  # this form of tar cannot write that name or size
                continue
    return file.getvalue()


def parquet_mutant(content: bytes, chance: random.Random) -> bytes:
    """Columns of other names and types, rows without a value, or damage behind a right header."""
    if chance.random() < 0.3:
        return broken(content, chance)
    table = pq.read_table(io.BytesIO(content))
    rows = table.num_rows
    png = table.column("image")[0].as_py()["bytes"]
    how = chance.randrange(6)
    if how == 0:
        changed = bytearray(content)  # pages stand first, the footer last
        for _ in range(chance.randint(1, 9)):
            changed[chance.randrange(4, len(changed) // 2)] = chance.randrange(256)
        return bytes(changed)
    if how == 1:
        columns = {chance.choice(["image", "path", "x", "label", ""]): [png] * rows}
    elif how == 2:
        odd = [None, b"", broken(png, chance), b"\xff" * 50]
        columns = {"image": [chance.choice(odd) for _ in range(rows)]}
    elif how == 3:
        odd = [None, "", "\0", "../../etc/hostname", "x" * 5000, ".", "/dev/zero"]
        columns = {chance.choice(["image", "path"]): [chance.choice(odd) for _ in range(rows)]}
    elif how == 4:
        odd = [{"bytes": None, "path": "nobody.png"}, {"bytes": None, "path": None},
               {"bytes": png, "path": "\0"}, {"other": 1}, {"bytes": 7}]  # fmt: skip
        columns = {"image": [chance.choice(odd)] * rows}
    else:
        odd = [1, 1.5, True, [1], [[png]], ["1.png"], float("nan")]
        columns = {"image": [chance.choice(odd)] * rows, "path": [chance.choice(odd)] * rows}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=chance.choice([1, 100]))
    return file.getvalue()


def image_mutant(content: bytes, chance: random.Random) -> bytes:
    """A picture of another format or form, or a damaged one; the name may say something else."""
    whole = chance.choice([content, *hostile_images.answered().values()])
    if chance.random() < 0.4:
        return broken(content, chance)
    refused = [data for data, _ in hostile_images.refused().values() if len(data) < 2**16]
    return chance.choice([whole, hostile_images.flipped(whole, chance.randrange(2**32)),
                          chance.choice(refused)])  # fmt: skip


def seeded(name: str, number: int) -> random.Random:
    """The chance of one mutant: the same in every run."""
    return random.Random(f"{name} {number}")


def mutants_of(name: str, content: bytes, mutate: Mutate, count: int) -> Any:
    """`count` mutants, each with its number."""
    for number in range(count):
        yield number, mutate(content, seeded(name, number))
