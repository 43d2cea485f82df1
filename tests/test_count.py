"""k, as people write it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofn import KofnError
from kofn.core.count import count, memory_bytes


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [
        (1, 1, 1),
        (1000, 5000, 1000),
        (np.int64(7), 7, 7),
        ("7", 9, 7),
        (" 1_000 ", 5000, 1000),
        ("2k", 5000, 2000),
        ("1.5M", 2_000_000, 1_500_000),
        ("1b", 10**9, 10**9),
        ("10%", 10, 1),
        ("1%", 10, 1),  # 0.1 rows: never below one
        ("25%", 10, 3),  # 2.5 rows: half up
        ("35%", 10, 4),  # 3.5 rows: half up, not to even
        ("100%", 10, 10),
        ("12.5%", 1000, 125),
        (0.25, 10, 3),
        (0.01, 5000, 50),
        ("0.01", 5000, 50),
        (np.float32(0.5), 10, 5),
        (1e-9, 10, 1),
    ],
)
def test_k_becomes_a_number_of_rows(k, n, expected):
    picked = count(k, n)
    assert picked == expected
    assert type(picked) is int


NO_NUMBERS = [0, -3, 9, 1.0, 0.0, 2.5, -0.1, float("nan"), float("inf"), True, np.True_, None, [3], 3 + 0j]
NO_WORDS = [
    "many",
    "",
    "%",
    "0%",
    "-5%",
    "120%",
    "nan",
    "nan%",
    "inf",
    "1.0",
    "0",
    "-1",
    "9",
    "3 rows",
    "k",
    "0.0001k",
    "nank",
    "infM",
]


@pytest.mark.parametrize("k", [*NO_NUMBERS, *NO_WORDS], ids=repr)
def test_what_cannot_be_a_k_is_an_error_that_repeats_it(k):
    with pytest.raises(KofnError) as caught:
        count(k, 8)
    assert str(k).strip() in str(caught.value)


def test_the_error_says_how_many_there_are():
    with pytest.raises(KofnError, match="k=12 is more than the 8 experts there are; ask for at most 8"):
        count(12, 8, what="experts")


@given(share=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True), n=st.integers(1, 10**9))
def test_a_share_is_within_half_a_row_and_never_below_one(share, n):
    picked = count(share, n)
    assert 1 <= picked <= n
    assert picked == 1 or abs(picked - share * n) <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GiB", 2 << 30),
        ("500 MB", 500_000_000),
        ("500mb", 500_000_000),
        (1 << 20, 1 << 20),
        ("1.5 KiB", 1536),
        ("64m", 64 << 20),
    ],
)
def test_memory_is_read_in_binary_and_decimal_units(text, expected):
    assert memory_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "lots", "GiB", "-1GB", "0", "2 apples", "nan", "inf GiB", None], ids=repr)
def test_what_is_no_amount_of_memory_is_an_error(text):
    with pytest.raises(KofnError, match="memory="):
        memory_bytes(text)
