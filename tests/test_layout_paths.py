import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from gradsmith.layout.paths import longest_prefix, longest_suffix

names = st.lists(st.sampled_from("ab"), max_size=4)


@given(names, st.lists(names, max_size=4))
@settings(deadline=None, max_examples=100)
def test_the_longest_prefix_is_the_longest_of_all_that_a_loop_finds(path, others):
    prefixes = {"/".join(other) for other in others}
    above = ["/".join(path[:end]) for end in range(len(path) + 1)]
    found = [prefix for prefix in above if prefix in prefixes]
    assert longest_prefix("/".join(path), prefixes) == max(found, key=len, default=None)


@given(names, st.lists(names, max_size=4))
@settings(deadline=None, max_examples=100)
def test_the_longest_suffix_is_the_longest_of_all_that_a_loop_finds(path, others):
    suffixes = set(map(tuple, others))
    found = [suffix for suffix in suffixes if tuple(path)[len(path) - len(suffix) :] == suffix]
    found = [suffix for suffix in found if len(suffix) <= len(path)]
    assert longest_suffix(tuple(path), suffixes) == max(found, key=len, default=None)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_prefix_ends_where_a_name_ends(cut):
    assert longest_prefix("blocks/0"[:-cut], ["bl", "blo"]) is None
    assert all(longest_prefix(path, {""}) == "" for path in itertools.chain(["", "a", "a/b"]))
