"""Further processes that share the work of this one.

They know nothing of this module: what they are given is of the standard library.
"""

import operator
import os
import time
from functools import partial

import pytest

from matml.errors import MatmlError
from matml.structures.parallel import Helpers


def test_results_come_in_order_from_this_process_and_the_others():
    items = [partial(divmod, i, 7) for i in range(300)]
    who = [os.getpid if i % 2 else partial(time.sleep, 0.01) for i in range(400)]
    with Helpers(1, "numbers") as helpers:
        assert list(helpers.share(operator.call, items)) == [divmod(i, 7) for i in range(300)]
        by = {*helpers.share(operator.call, who)} - {None}
    assert os.getpid() in by
    assert len(by) == 2


def test_this_process_does_its_part_its_own_way_and_all_of_it_without_others():
    with Helpers(0, "numbers") as helpers:
        found = helpers.share(operator.call, range(5), own=operator.neg)
        assert list(found) == [0, -1, -2, -3, -4]


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(10_000):
            taken.append(i)
            yield partial(divmod, i, 7)

    with Helpers(1, "numbers") as helpers:
        results = helpers.share(operator.call, items())
        assert next(results) == (0, 0)
        assert len(taken) < 100


def test_an_error_of_a_helper_and_its_death_reach_the_caller():
    items = [partial(divmod, 1, i) for i in (2, 1, 0)]
    with pytest.raises(ZeroDivisionError), Helpers(1, "numbers") as helpers:
        list(helpers.share(operator.call, items))
    dies = [partial(os._exit, 1) for _ in range(100)]
    with (
        pytest.raises(MatmlError, match=r"numbers: a worker process died.*fewer processes"),
        Helpers(1, "numbers") as helpers,
    ):
        list(helpers.share(operator.call, dies, own=lambda item: None))
