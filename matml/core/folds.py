"""Groups dealt into folds."""

from collections.abc import Sequence


def deal(groups: Sequence[str], folds: int) -> dict[str, int]:
    """Return the fold of each group.

    Dealt like cards, back and forth, so that folds are equally large where the groups come ordered
    by size.

    Examples
    --------
    >>> deal(["a", "b", "c", "d", "e"], 2)
    {'a': 0, 'b': 1, 'c': 1, 'd': 0, 'e': 0}
    """
    if not 1 < folds <= len(groups):
        raise ValueError(f"{len(groups)} groups cannot be dealt into {folds} folds")
    order = [*range(folds), *reversed(range(folds))]
    return {group: order[i % len(order)] for i, group in enumerate(groups)}
