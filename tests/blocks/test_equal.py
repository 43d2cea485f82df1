"""Equality of Arrow columns, against Python's own comparison of one row at a time."""

import datetime
import decimal

import pyarrow as pa
import pytest

from kofn.blocks.equal import equal_rows, first_difference

NAN = float("nan")
DAY = datetime.datetime(2020, 1, 1)
PAIRS = {
    "float32": (pa.float32(), [1.0, NAN, None, 2.0, NAN], [1.0, NAN, None, 3.0, 1.0]),
    "float16": (pa.float16(), [1.0, NAN, None, 2.0], [1.0, NAN, 5.0, 2.0]),
    "vectors": (pa.list_(pa.float32(), 2), [[1, 2], [NAN, 1], None, [1, 2], [1, None]], [[1, 2], [NAN, 1], None, [1, 3], [1, 2]]),
    "nested lists": (
        pa.list_(pa.list_(pa.float64())),
        [[[1.0], [NAN]], [], None, [[1.0]]],
        [[[1.0], [NAN]], [], [], [[1.0], []]],
    ),
    "large lists": (pa.large_list(pa.string()), [["a"], ["b", "c"], []], [["a"], ["b", "d"], None]),
    "text": (pa.string(), ["a", None, "b", "c"], ["a", None, "c", None]),
    "text views": (pa.string_view(), ["a", None, "b", "c"], ["a", None, "c", None]),
    "bytes": (pa.binary(), [b"a", None, b"b"], [b"a", b"", b"c"]),
    "categories": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "b"], ["a", "b", "b"]),
    "records": (
        pa.struct([("x", pa.float32()), ("y", pa.list_(pa.int8()))]),
        [{"x": NAN, "y": [1]}, None, {"x": 1.0, "y": None}],
        [{"x": NAN, "y": [1]}, None, {"x": 1.0, "y": []}],
    ),
    "maps": (pa.map_(pa.string(), pa.float32()), [[("a", 1.0)], None, [("a", NAN)]], [[("a", 1.0)], [], [("a", NAN)]]),
    "times": (pa.timestamp("us"), [DAY, None, DAY], [DAY.replace(day=2), None, DAY]),
    "decimals": (pa.decimal128(9, 2), [decimal.Decimal("1.10"), None], [decimal.Decimal("1.11"), None]),
    "truth": (pa.bool_(), [True, None, False], [True, None, True]),
    "nothing": (pa.null(), [None, None], [None, None]),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAIRS)
def test_rows_are_equal_where_python_says_so_whatever_the_layout(kind):
    arrow, left, right = PAIRS[kind]
    a, b = pa.array(left, arrow), pa.array(right, arrow)
    expected = [repr(x) == repr(y) for x, y in zip(a.to_pylist(), b.to_pylist(), strict=True)]
    assert equal_rows(a, b).tolist() == expected
    assert equal_rows(a.slice(1), b.slice(1)).tolist() == expected[1:]
    assert equal_rows(pa.concat_arrays([b, a]).slice(len(b)), b).tolist() == expected
    assert equal_rows(a, a).all()


def test_a_value_is_compared_whatever_type_a_format_made_of_it():
    seconds = pa.array([DAY, DAY], pa.timestamp("s"))
    assert equal_rows(seconds.cast(pa.timestamp("ms")), seconds).all()
    assert equal_rows(pa.array([1, 2], pa.int32()), pa.array([1, 3], pa.int64())).tolist() == [True, False]
    assert equal_rows(pa.array(["1", "x"]), pa.array([1, 2])).tolist() == [False, False]


def test_the_first_difference_is_found_across_slabs_and_chunks(monkeypatch):
    monkeypatch.setattr("kofn.blocks.equal.SLAB", 7)
    left = pa.chunked_array([list(range(10)), list(range(10, 100))])
    values = list(range(100))
    assert first_difference(left, pa.chunked_array([values])) is None
    values[93] = values[94] = -1
    assert first_difference(left, pa.chunked_array([values[:50], values[50:]])) == 93
