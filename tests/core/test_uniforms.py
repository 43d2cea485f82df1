"""Counter-based uniforms: golden values, and that nothing but the names of a number decides it."""

import numpy as np

from kofn.core.uniforms import child_seeds, philox, uniform_rows, uniforms


def words(*values: int) -> list[np.uint64]:
    return [np.uint64(value) for value in values]


def test_philox_gives_the_known_answers_of_its_authors() -> None:
    # Random123's known-answer file, philox4x32 with 10 rounds
    zero = philox(*words(0, 0, 0, 0, 0, 0))
    assert [int(x) for x in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = philox(*words(*[0xFFFFFFFF] * 6))
    assert [int(x) for x in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = philox(*words(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0))
    assert [int(x) for x in pi] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_a_number_does_not_depend_on_the_batch() -> None:
    seeds = child_seeds(7, 0, 50)
    whole = uniforms(seeds, 3)
    assert uniforms(seeds[[40, 2]], 3).tolist() == whole[[40, 2]].tolist()
    assert uniform_rows(seeds, 3, 9)[:, 0].tolist() == whole.tolist()
    assert uniform_rows(seeds, 3, 4).tolist() == uniform_rows(seeds, 3, 9)[:, :4].tolist()
    assert child_seeds(7, 40, 41).tolist() == seeds[40:41].tolist()


def test_steps_purposes_and_seeds_give_other_numbers() -> None:
    seeds = child_seeds(7, 0, 1000)
    numbers = [
        uniforms(seeds, 0),
        uniforms(seeds, 1),
        uniforms(seeds, 0, purpose=1),
        uniforms(child_seeds(8, 0, 1000), 0),
    ]
    assert len(np.unique(np.concatenate(numbers))) == 4000


def test_numbers_are_uniform_and_never_0_or_1() -> None:
    numbers = uniform_rows(child_seeds(0, 0, 200), 5, 5000).ravel()
    assert numbers.min() > 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, 100, (0, 1))[0]
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 190  # chi-square, 99 degrees: p < 1e-7 beyond


def test_golden_values_hold() -> None:
    assert uniforms(child_seeds(0, 0, 2), 1).tolist() == GOLDEN


GOLDEN = [0.492715986263419, 0.7934637872217256]
