"""Files of every kind give their rows, and broken ones a line that says so."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks.laying import normal, table_of, write_ipc, write_npy, write_parquet
from kofn.blocks.dataset import Dataset
from kofn.blocks.embedding import find_embedding
from kofn.blocks.files import FileBlocks
from kofn.errors import DataError, KofnError

KINDS = {
    "a.parquet": lambda path, x: write_parquet(path, x, 700),
    "a.pq": lambda path, x: write_parquet(path, x),
    "a.arrow": lambda path, x: write_ipc(path, x, 900),
    "a.feather": lambda path, x: write_ipc(path, x),
    "a.ipc": lambda path, x: write_ipc(path, x, 4_096),
    "a.npy": write_npy,
}


def read_all(path):
    dataset = Dataset.open(str(path))
    blocks = FileBlocks(dataset, find_embedding(dataset, None, None), check=False)
    return np.concatenate(list(blocks.map(lambda block: block.x.copy())))


@pytest.mark.parametrize("name", KINDS)
def test_rows_come_back_as_they_were_written(tmp_path, name):
    x = normal(9_000, 3)
    KINDS[name](tmp_path / name, x)
    dataset = Dataset.open(str(tmp_path / name))
    assert dataset.n == 9_000
    assert dataset.schema.names == ["embedding"]
    assert dataset.nbytes == (tmp_path / name).stat().st_size
    np.testing.assert_array_equal(read_all(tmp_path / name), x)


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip", "lz4", "brotli"])
def test_parquet_of_every_compression_and_page_version_is_read(tmp_path, codec):
    x = normal(5_000, 4)
    for version in ("1.0", "2.0"):
        pq.write_table(table_of(x), tmp_path / "a.parquet", compression=codec, data_page_version=version)
        np.testing.assert_array_equal(read_all(tmp_path / "a.parquet"), x)


def test_compressed_arrow_files_are_read(tmp_path):
    table = table_of(normal(5_000, 4))
    for codec in ("lz4", "zstd"):
        with pa.ipc.new_file(
            tmp_path / "a.arrow", table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)
        ) as file:
            file.write_table(table, max_chunksize=999)
        np.testing.assert_array_equal(read_all(tmp_path / "a.arrow"), normal(5_000, 4))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "i1", "u1", "<i2", "<i8", ">i4"])
def test_npy_of_every_type_of_numbers_is_read(tmp_path, dtype):
    x = np.random.default_rng(0).integers(0, 100, (5_000, 3)).astype(dtype)
    write_npy(tmp_path / "a.npy", x)
    np.testing.assert_array_equal(read_all(tmp_path / "a.npy"), x.astype(np.float32))


def test_npy_of_every_header_version_is_read(tmp_path):
    x = normal(100, 3)
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(tmp_path / "a.npy", "wb") as file:
            np.lib.format.write_array(file, x, version=version)
        np.testing.assert_array_equal(read_all(tmp_path / "a.npy"), x)


NOT_ROWS = {
    "objects": (np.array([[1, "a"]], dtype=object), "objects"),
    "one number a row": (np.arange(5.0), r"\(5,\).*x\[:, None\]"),
    "three axes": (np.zeros((2, 3, 4)), r"\(2, 3, 4\)"),
    "Fortran order": (np.asfortranarray(normal(50, 3)), "Fortran.*ascontiguousarray"),
    "complex numbers": (np.zeros((5, 3), complex), "complex128.*float32"),
    "text": (np.array([["a", "b"]]), "<U1.*float32"),
    "truth values": (np.ones((5, 3), bool), "bool"),
    "vectors of length 0": (np.zeros((5, 0), np.float32), "length 0"),
    "no rows": (np.zeros((0, 4), np.float32), "no rows"),
}


@pytest.mark.parametrize("name", NOT_ROWS)
def test_an_npy_that_holds_no_rows_of_numbers_is_an_error(tmp_path, name):
    array, words = NOT_ROWS[name]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        read_all(tmp_path / "a.npy")


def test_objects_in_an_npy_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.save(tmp_path / "a.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError):
        read_all(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_cut_off_is_an_error_wherever_the_cut(tmp_path, name):
    path = tmp_path / name
    KINDS[name](path, normal(6_000, 3))
    whole = path.read_bytes()
    for left in (0, 1, 7, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:left])
        with pytest.raises(DataError, match="a\\.") as caught:
            read_all(path)
        assert "\n" not in str(caught.value)
        assert "again" in str(caught.value) or "whole" in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_than_its_name_says_is_an_error(tmp_path, name):
    for content in (b"a,b\n1,2\n" * 50, b"PAR1 and nothing else", b"\x93NUMPY\x01\x00", bytes(300)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"a\.\w+ cannot be read|empty"):
            Dataset.open(str(tmp_path / name))


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip"])
def test_flipped_bytes_in_pages_are_an_error_or_other_numbers_but_never_a_crash(tmp_path, codec):
    x = np.repeat(normal(500, 4), 8, axis=0)
    path = tmp_path / "a.parquet"
    pq.write_table(table_of(x), path, compression=codec, row_group_size=1_000)
    whole = path.read_bytes()
    footer = pq.ParquetFile(path).metadata.serialized_size + 8
    refused = 0
    for at in np.random.default_rng(0).integers(4, len(whole) - footer, 60):
        flipped = bytearray(whole)
        flipped[at : at + 3] = bytes(255 - byte for byte in whole[at : at + 3])
        path.write_bytes(bytes(flipped))
        try:
            shape = read_all(path).shape
        except DataError as error:
            said = str(error)
            refused += 1
        else:
            said = f"a.parquet of {shape}"
        assert re.match(r"a\.parquet: row group|a\.parquet of \(4000, 4\)|a\.parquet does not hold", said)
    assert refused >= 5


def test_flipped_bytes_in_a_footer_are_an_error_or_harmless_but_never_a_crash(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, normal(2_000, 3), 500)
    whole = path.read_bytes()
    footer = pq.ParquetFile(path).metadata.serialized_size + 8
    refused = 0
    for at in np.random.default_rng(1).integers(len(whole) - footer, len(whole), 60):
        flipped = bytearray(whole)
        flipped[at] ^= 0x55
        path.write_bytes(bytes(flipped))
        try:
            read_all(path)
        except KofnError:
            refused += 1
    assert refused >= 10


def test_a_file_that_shrinks_after_it_was_opened_is_an_error(tmp_path):
    for name in ("a.parquet", "a.npy"):
        path = tmp_path / name
        KINDS[name](path, normal(20_000, 3))
        dataset = Dataset.open(str(path))
        blocks = FileBlocks(dataset, find_embedding(dataset, None, None))
        path.write_bytes(path.read_bytes()[:5_000])
        with pytest.raises(DataError, match="a\\."):
            list(blocks.map(lambda block: block.x.copy()))


def test_columns_that_folders_spell_are_text_beside_the_files_own(tmp_path):
    for year, lang in (("2023", "de"), ("2024", "en"), ("2024", "a b%2Fc"), ("__HIVE_DEFAULT_PARTITION__", "fr")):
        folder = tmp_path / f"year={year}" / f"lang={lang}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"row": [1, 2]}), folder / "part.parquet")
    dataset = Dataset.open(str(tmp_path))
    assert dataset.schema == pa.schema({"row": pa.int64(), "year": pa.string(), "lang": pa.string()})
    assert dataset.column("year").to_pylist() == ["2023"] * 2 + ["2024"] * 4 + [None] * 2
    assert dataset.column("lang").to_pylist() == ["de"] * 2 + ["a b/c"] * 2 + ["en"] * 2 + ["fr"] * 2
    assert dataset.take(np.array([7, 2]), ["lang", "row"]).to_pydict() == {"lang": ["fr", "a b/c"], "row": [2, 1]}


def test_what_pyarrow_partitions_is_read_back(tmp_path):
    import pyarrow.dataset as ds

    table = pa.table({"kind": ["x/y", "z", None, "x/y"], "row": [0, 1, 2, 3], "embedding": [[1.0, 2.0]] * 4})
    parts = ds.partitioning(pa.schema({"kind": pa.string()}), flavor="hive")
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=parts)
    dataset = Dataset.open(str(tmp_path))
    back = dataset.take(np.argsort(dataset.column("row").to_numpy()), ["kind", "row", "embedding"])
    assert back.to_pydict() == table.to_pydict()


def test_a_column_of_the_file_wins_over_its_folder(tmp_path):
    folder = tmp_path / "year=2024"
    folder.mkdir()
    pq.write_table(pa.table({"year": [2019, 2020]}), folder / "a.parquet")
    dataset = Dataset.open(str(tmp_path))
    assert dataset.schema.field("year").type == pa.int64()
    assert dataset.column("year").to_pylist() == [2019, 2020]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_batches_hold_the_asked_columns_in_the_asked_order(tmp_path, name):
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"], "c.d": [0.5, 1.5, 2.5]})
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name, row_group_size=2)
    else:
        with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (file,) = Dataset.open(str(tmp_path / name)).files
    assert file.group_rows == (2, 1)
    for columns in (["c.d", "a"], ["b"], ["a", "b", "c.d"]):
        batches = list(file.batches([0, 1], columns))
        assert pa.Table.from_batches(batches).to_pydict() == {column: table[column].to_pylist() for column in columns}
    assert sum(batch.num_rows for batch in file.batches([1], ["a"])) == 1


def test_a_fingerprint_is_that_of_the_last_bytes(tmp_path):
    write_parquet(tmp_path / "a.parquet", normal(100, 3))
    (file,) = Dataset.open(str(tmp_path / "a.parquet")).files
    assert file.tail() == (tmp_path / "a.parquet").read_bytes()[-65_536:]
    write_npy(tmp_path / "b.npy", normal(30_000, 3))
    (file,) = Dataset.open(str(tmp_path / "b.npy")).files
    assert file.tail() == (tmp_path / "b.npy").read_bytes()[-65_536:]
