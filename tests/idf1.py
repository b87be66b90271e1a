"""IDF1: how well ids follow people, by the field's definition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment


def idf1(pairs: Iterable[tuple[Hashable, Hashable]]) -> float:
    """2 IDTP / (2 IDTP + IDFP + IDFN) in 0..1 over the people that were found.

    Args:
        pairs: the true id and the given id of each person found, frame after frame; a true id of
            None is a person that is nobody's, a given id of None is one that got none.

    Source: Ristani et al. 2016 (arXiv:1609.01775), section 3: given ids are paired with true ones
    as is best over the whole sequence.
    """
    together = Counter(pairs)
    true = sorted({one for one, _ in together if one is not None}, key=str)
    given = sorted({two for _, two in together if two is not None}, key=str)
    counts = np.array([[together[one, two] for two in given] for one in true])
    right = counts[linear_sum_assignment(-counts)].sum()
    truths = sum(count for (one, _), count in together.items() if one is not None)
    answers = sum(count for (_, two), count in together.items() if two is not None)
    return float(2 * right / (truths + answers))
