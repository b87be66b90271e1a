"""Structural mutants of JSON documents: right syntax, wrong meaning."""

import copy

from hypothesis import strategies as st

ODD = [None, True, -1, 0, 1e300, float("nan"), float("inf"), 10**400, "", "x", "1", [], {}, [[]]]


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The path to each value of a JSON document; of a long list only the first few."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, each in value.items():
            found += places(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value[:3]):
            found += places(each, (*path, index))
    return found


@st.composite
def mutants(draw, content):
    """`content` with up to three values replaced, removed, doubled or put elsewhere."""
    return _mutant(content, lambda choices: draw(st.sampled_from(choices)), draw(st.integers(1, 3)))


def seeded_mutant(content, chance):
    """The same, by a `random.Random`: for loops that count."""
    return _mutant(content, chance.choice, chance.randint(1, 3))


def _mutant(content, pick, times):
    changed = copy.deepcopy(content)
    for _ in range(times):
        *above, last = pick(places(changed))
        parent = changed
        for key in above:
            parent = parent[key]
        how = pick(["odd", "odd", "remove", "double", "other"])
        if how == "remove":
            del parent[last]
        elif how == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        elif how == "other":
            other = changed
            for key in pick(places(changed)):
                other = other[key]
            parent[last] = copy.deepcopy(other)
        else:
            parent[last] = copy.deepcopy(pick(ODD))
        if not places(changed):
            break
    return changed
