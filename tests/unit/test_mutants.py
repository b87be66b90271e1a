"""The sample of mutants: seeded, of every module, and only of what code does."""

from __future__ import annotations

import pytest

pytest.importorskip("cosmic_ray", reason="run `pip install -e '.[mutants]'`")

from tests.mutants.sample import mutants_of, sample

SOURCE = '''"""Two things."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    one: int | None = 3


def add(pairs: list[int | None], *, rest: int) -> int | None:
    for a, b in zip(pairs, rest, strict=True):
        if a > b:
            return print(1, **rest)
    return pairs[0] + 1
'''


def test_only_what_code_does_is_changed():
    mutants = mutants_of("m.py", SOURCE)
    lines = {mutant.line for mutant in mutants}
    assert lines == {10, 13, 14, 15, 16, 17}  # 13: the star of parameters, which no sample takes
    assert {m.operator.rpartition("/")[2] for m in mutants if m.line == 10} == {"NumberReplacer"}
    assert not [m for m in mutants if "True" in m.operator]


def test_a_mutant_is_the_file_with_one_change():
    (mutant,) = [m for m in mutants_of("m.py", SOURCE) if m.operator.endswith("Gt_LtE")]
    assert mutant.code(SOURCE) == SOURCE.replace("a > b", "a <= b")


def test_a_sample_is_of_every_module_seeded_and_compiles():
    mutants = {name: mutants_of(name, SOURCE) for name in ("a.py", "b.py")}
    texts = dict.fromkeys(mutants, SOURCE)
    chosen = sample(mutants, texts, 6, seed=1)
    assert chosen == sample(mutants, texts, 6, seed=1)
    assert chosen != sample(mutants, texts, 6, seed=2)
    assert {mutant.file for mutant in chosen} == {"a.py", "b.py"}
    assert len({(m.file, m.line, m.column) for m in chosen}) == len(chosen)
    for seed in range(9):
        for mutant in sample(mutants, texts, 99, seed):
            compile(mutant.code(SOURCE), mutant.file, "exec")
            assert mutant.line != 13  # the star of its parameters
