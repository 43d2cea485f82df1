"""What both speculative decoders share."""

import numpy as np
import pytest

from kofn.core.uniforms import child_seeds
from kofn.decode.speculation.rounds import ACCEPT, CORRECT, DRAFT, KEY, ROW, Chances, Tally


def test_uniforms_of_a_step_do_not_depend_on_the_length_asked_for():
    short, long = (Chances(child_seeds(3, 2, 3), length) for length in (4, 9))
    assert [short.at(16, step) for step in range(4)] == [long.at(16, step) for step in range(4)]
    assert short.at(16, 0) != short.at(19, 0)


def test_no_two_purposes_share_their_numbers():
    purposes = [ACCEPT, CORRECT, *(DRAFT + ROW * row for row in range(500))]
    purposes += [KEY + ROW * row + part for row in range(500) for part in (0, 1)]
    assert len(set(purposes)) == len(purposes)


def test_the_tally_is_reported_by_position():
    tally = Tally(3)
    for depth, accepted in ((0, True), (1, False), (0, True), (1, True), (0, False)):
        tally.judged(depth, accepted)
    details = tally.details(emitted=9, passes=4)
    assert (details["tested"], details["accepted"]) == (5, 3)
    assert details["acceptance"] == pytest.approx(0.6)
    assert details["acceptance_by_position"][:2] == pytest.approx([2 / 3, 1 / 2])
    assert np.isnan(details["acceptance_by_position"][2])
    assert details["tokens_per_pass"] == pytest.approx(3)
