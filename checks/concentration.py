"""How unevenly interest is spread over a catalogue, from sums that an engine returns in one row.

Here: Gini over the whole catalogue, effective catalogue size, coverage. Not here: comparing two windows
(``stats``) and the SQL. Items never seen are part of the catalogue and count as 0; over the seen items alone,
a system that shows 200 of 100,000 items equally often would read as perfectly even.
"""

import math

# Relative rounding allowed in sums that an engine adds up as floating point.
ROUNDING = 1e-9


def gini(rank_weighted_sum: float, total: float, seen_items: int, catalogue_items: int) -> float | None:
    """Return the Gini coefficient of the counts over the whole catalogue.

    It is 2 sum(i x_i) / (C sum x) - (C + 1) / C over counts x sorted upwards, for C items, Z of them never
    seen, where i = Z + r for the seen item of rank r. One division at the end keeps the digits.

    Args:
        rank_weighted_sum: Sum of rank * count over the seen items. Rank 1 is the smallest count; equal counts
            get different ranks in any order (SQL: ``row_number() over (order by count)``).
        total: Sum of the counts, 0 or more.
        seen_items: Items with a count above 0.
        catalogue_items: Items that could have been seen, 0 or more.

    Returns:
        From 0.0 (all equal) to 1 - 1 / catalogue_items (one item has all); None when nothing was seen.

    Raises:
        ValueError: A figure is negative or not finite, more items were seen than there are, only one of seen
            items and total is 0, or the weighted sum is out of reach (ranks shared, or from the top).

    Cost:
        Arithmetic only. The sums need the counts per item, sorted, once.

    Examples:
        >>> round(gini(200 * 201 // 2, total=200, seen_items=200, catalogue_items=100_000), 3)
        0.998
        >>> gini(0, total=0, seen_items=0, catalogue_items=100_000) is None
        True

    References:
        Dorfman (1979), A Formula for the Gini Coefficient, Review of Economics and Statistics 61(1).
        Fleder and Hosanagar (2009), Blockbuster Culture's Next Rise or Fall, Management Science 55(5).
    """
    _check_seen(seen_items, catalogue_items)
    _check_ranked(rank_weighted_sum, total, seen_items)
    if total == 0:
        return None
    moved = (catalogue_items - seen_items) * total + rank_weighted_sum
    uneven = (2 * moved - (catalogue_items + 1) * total) / (catalogue_items * total)
    return max(0.0, float(uneven))


def effective_size(total: float, sum_count_log_count: float) -> float | None:
    """Return how many equally popular items would be as varied: exp of the entropy of the shares.

    Items never seen add nothing to the entropy, so the size of the catalogue is not needed.

    Args:
        total: Sum of the counts, 0 or more.
        sum_count_log_count: Sum of count * ln(count) over the seen items, natural logarithm, counts of 1 or
            more.

    Returns:
        From 1.0 (one item has all) to ``total`` (every count is 1); None when nothing was seen.

    Raises:
        ValueError: A figure is negative or not finite, or the sum is above total * ln(total), which no counts
            give (a logarithm in another base does).

    Cost:
        Arithmetic only. The sums need the counts per item once.

    Examples:
        >>> round(effective_size(1_000, 200 * 5 * math.log(5)), 6)
        200.0
        >>> effective_size(0, 0) is None
        True

    References:
        Hill (1973), Diversity and Evenness: A Unifying Notation and Its Consequences, Ecology 54(2).
    """
    _check_amount("total", total)
    _check_amount("sum_count_log_count", sum_count_log_count)
    highest = total * math.log(total) if total > 0 else 0.0
    if sum_count_log_count > highest * (1 + ROUNDING):
        raise ValueError(
            f"sum_count_log_count must be at most total * ln(total) = {highest}, got {sum_count_log_count}; "
            "sum count * ln(count) over the items"
        )
    if total == 0:
        return None
    return math.exp(max(0.0, math.log(total) - sum_count_log_count / total))


def coverage(seen_items: int, catalogue_items: int) -> float | None:
    """Return the share of the catalogue that was seen at least once.

    Args:
        seen_items: Items with a count above 0.
        catalogue_items: Items that could have been seen, 0 or more.

    Returns:
        Ratio from 0.0 to 1.0; None for an empty catalogue.

    Raises:
        ValueError: A figure is negative, or more items were seen than there are.

    Cost:
        Arithmetic only.

    Examples:
        >>> coverage(200, 100_000)
        0.002

    References:
        Ge, Delgado-Battenfeld and Jannach (2010), Beyond Accuracy: Evaluating Recommender Systems by Coverage
        and Serendipity, RecSys '10.
    """
    _check_seen(seen_items, catalogue_items)
    return seen_items / catalogue_items if catalogue_items else None


def _check_seen(seen_items: int, catalogue_items: int) -> None:
    _check_amount("seen_items", seen_items)
    _check_amount("catalogue_items", catalogue_items)
    if seen_items > catalogue_items:
        raise ValueError(
            f"seen_items must be at most catalogue_items, got {seen_items} of {catalogue_items}; "
            "take both from the same catalogue and leave unknown items out"
        )


def _check_ranked(rank_weighted_sum: float, total: float, seen_items: int) -> None:
    _check_amount("rank_weighted_sum", rank_weighted_sum)
    _check_amount("total", total)
    if (total > 0) != (seen_items > 0):
        raise ValueError(f"total and seen_items must be 0 together, got {total}, {seen_items}; count again")
    lowest, highest = total * (seen_items + 1) / 2, total * seen_items
    if not lowest * (1 - ROUNDING) <= rank_weighted_sum <= highest * (1 + ROUNDING):
        raise ValueError(
            f"rank_weighted_sum must be from {lowest} to {highest}, got {rank_weighted_sum}; "
            "rank by row_number from the smallest count"
        )


def _check_amount(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and 0 or more, got {value}; count the rows again")
