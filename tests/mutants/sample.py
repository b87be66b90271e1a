"""Which mutants there are, by the operators of cosmic-ray, and a seeded sample of them.

cosmic-ray itself runs every mutant (tens of thousands here) in the working tree; its operators are
what we use of it. A site is a place in a file that some operators can change. A sample takes one
change each of sites evenly spaced through all of them, module by module, so that each module has
its share.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# Operators whose changes a person makes by mistake. A removed decorator or another exception ends
# the import, which every test notices.
_KINDS = (
    *("ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator"),
    *("NumberReplacer", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr"),
    *("ReplaceOrWithAnd", "AddNot", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    "ZeroIterationForLoop",
)
# `is` and `==` differ for no value of ours.
_SAME = {"Eq_Is", "Is_Eq", "NotEq_IsNot", "IsNot_NotEq"}


@dataclass(frozen=True, slots=True, order=True)
class Mutant:
    """One change of one file."""

    file: str  # below the checkout
    line: int
    column: int
    operator: str
    occurrence: int

    def code(self, source: str) -> str:
        """The file's text with the change."""
        changed = mutate_code(source, get_operator(self.operator)(), self.occurrence)
        if changed is None:
            raise ValueError(f"{self}: expected to change {self.file}, got no change")
        return str(changed)


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Every mutant of a file, in its order.

    Not of what does nothing in code that is right: annotations, `strict=` and dataclass options.
    """
    idle = list(_idle_lines_and_columns(source))
    tree = list(ast_nodes(parso.parse(source)))
    found = []
    for name in sorted(operator_names()):
        kind = name.rpartition("/")[2]
        if not kind.startswith(_KINDS) or kind.rpartition("Operator_")[2] in _SAME:
            continue
        positions = [
            position for node in tree for position in get_operator(name)().mutation_positions(node)
        ]
        found += [
            Mutant(file, *start, name, occurrence)
            for occurrence, (start, _) in enumerate(positions)
            if not any(low <= start < high for low, high in idle)
        ]
    return sorted(found)


def _is_real(mutant: Mutant, source: str) -> bool:
    """Whether a mutant compiles and changes what is computed.

    To cosmic-ray the stars of parameters and arguments, `f(*, a)` and `f(**rest)`, are operators.
    """
    try:
        changed = ast.parse(mutant.code(source))
    except SyntaxError:
        return False
    return "BinaryOperator" not in mutant.operator or _operators(changed) != _operators(
        ast.parse(source)
    )


def _operators(tree: ast.AST) -> Counter[type]:
    return Counter(type(node) for node in ast.walk(tree) if isinstance(node, ast.operator))


def _idle_lines_and_columns(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations, type aliases and `if TYPE_CHECKING` stand."""
    for node in ast.walk(ast.parse(source)):
        for part in (
            getattr(node, "annotation", None),
            getattr(node, "returns", None),
            *_dataclass_options(node),
            node if _is_for_types(node) or _is_strict(node) else None,
        ):
            if isinstance(part, ast.AST):
                end = (part.end_lineno or 0, part.end_col_offset or 0)  # type: ignore[attr-defined]
                yield (part.lineno, part.col_offset), end  # type: ignore[attr-defined]


def _dataclass_options(node: ast.AST) -> list[ast.expr]:
    decorators = node.decorator_list if isinstance(node, ast.ClassDef) else []
    return [each for each in decorators if ast.unparse(each).startswith("dataclass")]


def _is_strict(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _is_for_types(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript | ast.BinOp)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id.istitle()
    )


def sample(
    mutants: Mapping[str, Sequence[Mutant]], texts: Mapping[str, str], count: int, seed: int
) -> list[Mutant]:
    """About `count` mutants that compile and compute something else, stratified by module.

    The same for the same seed and code.

    Args:
        mutants: of `mutants_of`, by file.
        texts: of the files.
        count: how many, about.
        seed: of the draw.
    """
    draw = random.Random(seed)
    sites = []
    for _, each in sorted(mutants.items()):
        places = sorted({(m.file, m.line, m.column) for m in each})
        sites += draw.sample(places, len(places))
    step = max(1.0, len(sites) / count)
    start = draw.random()
    chosen = []
    for number in range(min(count, len(sites))):
        site = sites[int((number + start) * step)]
        here = [m for m in mutants[site[0]] if (m.file, m.line, m.column) == site]
        draw.shuffle(here)
        chosen += [m for m in here if _is_real(m, texts[m.file])][:1]
    return chosen


def sources(root: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Text of the files that patterns below the checkout name, by their place."""
    files = {path for pattern in patterns for path in root.glob(pattern)}
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(files)
        if path.name not in ("__init__.py", "commands.py", "settings.py")
    }
