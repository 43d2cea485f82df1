import pytest

from kofn.page.words import about, listed, number, percent, plural, rows


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (26.04, "26.0"), (999.6, "1,000"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.00042, "0.042 %"), (0.0281, "2.8 %"), (0.4149, "41 %"), (1.0, "100 %")]
)
def test_percents_keep_their_sign_on_the_same_line(share, text):
    assert percent(share) == text.replace(" ", "\u00a0")


def test_what_is_read_off_a_curve_has_two_digits():
    assert about(148.2) == "150"
    assert about(12_345) == "12,000"
    assert about(7.3) == "7"


def test_whole_weights_are_whole():
    assert rows(67.0) == "67"
    assert rows(5.25) == "5.25"
    assert rows(1234.5) == "1,234"


def test_counted_nouns_and_lists():
    assert plural(1, "pick") == "1 pick"
    assert plural(2_000, "pick") == "2,000 picks"
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"
