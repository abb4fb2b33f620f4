#!/usr/bin/env python3
"""Writes the .parquet files of this folder, which worker/data/tests read: write.py, in an environment with pyarrow and
pandas (26.0.1 and 3.1.1 wrote those that are committed)."""
import base64, datetime, pathlib
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

here = pathlib.Path(__file__).resolve().parent
ROWS = 7
rows = range(ROWS)


def save(name, table, **options):
    pq.write_table(table, here / name, **{"write_statistics": False, "store_schema": False} | options)


# every kind that is read, the same content in each file
columns = {
    "int32": pa.array([k - 3 for k in rows], pa.int32()),
    "int64": pa.array([k * 10**12 for k in rows], pa.int64()),
    "uint32": pa.array([4 * 10**9 + k for k in rows], pa.uint32()),
    "string": pa.array([f"u{k}" for k in rows], pa.string()),
    "large_string": pa.array([f"ü{k}" for k in rows], pa.large_string()),
    "category": pa.array([f"c{k % 2}" for k in rows]).dictionary_encode(),
    "float": pa.array([k / 4 for k in rows], pa.float32()),
    "double": pa.array([k / 8 for k in rows], pa.float64()),
    "half": pa.array([np.float16(k / 2) for k in rows], pa.float16()),
    "boolean": pa.array([k % 2 == 0 for k in rows]),
    "milliseconds": pa.array([1_600_000_000_000 + k for k in rows], pa.timestamp("ms")),
    "microseconds": pa.array([1_600_000_000_000_000 + k for k in rows], pa.timestamp("us", "UTC")),
    "nanoseconds": pa.array([1_600_000_000_000_000_000 + k for k in rows], pa.timestamp("ns")),
    "date": pa.array([18_000 + k for k in rows], pa.int32()).cast(pa.date32()),
    "int64_null": pa.array([None if k % 3 == 1 else k for k in rows], pa.int64()),
    "string_null": pa.array([None if k % 3 == 1 else f"u{k}" for k in rows]),
    "double_null": pa.array([None if k % 3 == 1 else k / 8 for k in rows], pa.float64()),
    "half_null": pa.array([None if k % 3 == 1 else np.float16(k / 2) for k in rows], pa.float16()),
    "list": pa.array([[k, k + 0.5] for k in rows], pa.list_(pa.float32())),
    "fixed": pa.FixedSizeListArray.from_arrays(pa.array([x for k in rows for x in [k, -k]], pa.float64()), 2),
    "halves": pa.array([[np.float16(k / 2)] for k in rows], pa.list_(pa.float16())),
    "list_null": pa.array([None if k % 3 == 1 else [] if k % 3 == 2 else [k, None] for k in rows], pa.list_(pa.float64())),
}
table = pa.table(columns)
save("snappy-dictionary.parquet", table, compression="snappy", row_group_size=3)
save("zstd-plain-v2.parquet", table, compression="zstd", use_dictionary=False, data_page_version="2.0", row_group_size=4)
save("gzip-small-pages.parquet", table.select(["int64", "string_null", "list", "list_null"]), compression="gzip", data_page_size=1, write_batch_size=1, write_page_checksum=True)
split = ["float", "double", "list.list.element", "fixed.list.element"]
save("none-split.parquet", table, compression="none", use_dictionary=False,
     column_encoding={c: "BYTE_STREAM_SPLIT" for c in split} | {"int32": "DELTA_BINARY_PACKED", "int64": "DELTA_BINARY_PACKED"})
required = pa.schema([pa.field(n, a.type, nullable=n.endswith("null")) for n, a in columns.items()])
save("required.parquet", pa.table(columns, schema=required), compression="gzip", write_statistics=True)

# what Spark and Impala wrote for long
old = pa.table({"time_null": pa.array([None if k % 3 == 1 else 1_600_000_000_000_000_000 + k for k in rows], pa.timestamp("ns"))})
save("int96.parquet", old, use_deprecated_int96_timestamps=True)

# what is refused
save("brotli.parquet", pa.table({"a": [1]}), compression="brotli")
save("lz4.parquet", pa.table({"a": [1]}), compression="lz4")
save("delta-strings.parquet", pa.table({"a": ["x", "xy"]}), use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"})
save("kinds.parquet", pa.table({
    "nested": pa.array([{"x": 1}]), "lists": pa.array([[[0.5]]]), "integers": pa.array([[1]]),
    "decimal": pa.array([1]).cast(pa.decimal128(25, 2)), "time": pa.array([datetime.time(1, 2)]),
    "map": pa.array([[("a", 1.0)]], pa.map_(pa.string(), pa.float64())), "large": pa.array([2**64 - 1], pa.uint64()),
}))
save("not-utf8.parquet", pa.table({"a": pa.array([b"ok", b"\xff"])}))


class Keys(pe.KmsClient):
    def __init__(self, config):
        super().__init__()

    def wrap_key(self, key, name):
        return base64.b64encode(key)

    def unwrap_key(self, key, name):
        return base64.b64decode(key)


for name, plain in [("encrypted.parquet", False), ("encrypted-columns.parquet", True)]:
    config = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["a"]}, plaintext_footer=plain)
    secret = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
    with pq.ParquetWriter(here / name, pa.schema([("a", pa.int64())]), encryption_properties=secret) as writer:
        writer.write_table(pa.table({"a": [1, 2]}))

# text tables: users u0 to u3 in another order, by pandas; the vector of u<k> is k, k / 2
order = [2, 0, 3, 1]
frame = pd.DataFrame({"user_id": [f"u{k}" for k in order], "embedding": [[float(k), k / 2] for k in order],
                      "profile": [f"text of {k}" for k in order]})
frame.to_parquet(here / "pandas-lists.parquet")
# users 7, 30 and 100 as numbers, the vector of k is k, k / 2
numbers = [100, 7, 30]
halves = pa.FixedSizeListArray.from_arrays(pa.array([x for k in numbers for x in [k, k / 2]], pa.float32()), 2)
save("integer-ids.parquet", pa.table({"user_id": pa.array(numbers, pa.int32()), "emb": halves}))
users = pa.array(["u0", "u1", "u2", "u3"])
vectors = [[1.0, 2.0]] * 3
for name, columns in {
    "null-id": {"user_id": pa.array(["u0", None]), "emb": pa.array([[1.0]] * 2)},
    "null-vector": {"user_id": users, "emb": pa.array(vectors + [None], pa.list_(pa.float64()))},
    "null-element": {"user_id": users, "emb": pa.array(vectors + [[1.0, None]])},
    "ragged": {"user_id": users, "emb": pa.array(vectors + [[1.0]])},
    "stray-integer": {"user_id": users, "d0": pa.array([1.0] * 4), "d1": pa.array([1] * 4)},
    "two-lists": {"user_id": users, "a": pa.array([[1.0]] * 4), "b": pa.array([[1.0]] * 4)},
    "of-items": {"item_id": users, "emb": pa.array([[1.0]] * 4)},
    "other-side": {"item_id": users, "number": pa.array([1] * 4), "emb": pa.array([[1.0]] * 4)},
    "two-ids": {"id": users, "user_id": users, "emb": pa.array([[1.0]] * 4)},
    "float-ids": {"user_id": pa.array([7.0, 30.0]), "emb": pa.array([[1.0]] * 2)},
    "no-floats": {"user_id": users},
    "no-rows": {"user_id": users[:0], "emb": pa.array([], pa.list_(pa.float64()))},
}.items():
    save(f"bad-{name}.parquet", pa.table(columns))
wide = pd.DataFrame({"d0": [float(k) for k in order], "d1": [k / 2 for k in order]}, index=[f"u{k}" for k in order])
wide.to_parquet(here / "pandas-wide-indexed.parquet", compression="zstd")
# row numbers beside the ids, in the order of the rows: u0 to u3 are customers
frame = pd.DataFrame({"customer": [f"u{k}" for k in order], "embedding": [[float(k), k / 2] for k in order]})
frame.set_index(pd.Index([0, 5, 6, 7])).to_parquet(here / "trap-indexed.parquet")
frame.reset_index().to_parquet(here / "trap-index.parquet")
frame.rename(columns={"customer": "shopper"}).reset_index().to_parquet(here / "trap-unknown.parquet")
frame.assign(id=range(4)).to_parquet(here / "trap-id.parquet")
frame.drop(columns="customer").assign(rank=range(4)).to_parquet(here / "trap-rank.parquet")
# vectors over columns: 0 to 11 by name and by number, and floats that are no part of the vector
users = [f"u{k}" for k in range(4)]
places = sorted(range(12), key=str)
save("wide-by-name.parquet", pa.table({"user_id": users} | {f"d{p}": [float(k + p) for k in range(4)] for p in places}))
save("wide-by-number.parquet", pa.table({"user_id": users} | {f"d{p}": [float(k + p) for k in range(4)] for p in range(12)}))
save("wide-items.parquet", pa.table({"item_id": pa.array(range(4))} | {f"d{p}": [float(k + p) for k in range(4)] for p in range(12)}))
save("wide-items-from-1.parquet", pa.table({"item_id": pa.array(range(4))} | {f"d{p + 1}": [float(p)] * 4 for p in range(12)}))
d = {f"d{p}": pa.array([float(p)] * 4) for p in range(3)}
save("bad-stray-float.parquet", pa.table({"user_id": users, "mean_rating": [0.5] * 4} | d))
save("bad-stray-string.parquet", pa.table({"user_id": users} | d | {"d2": ["1.0"] * 4}))
save("bad-string-vector.parquet", pa.table({"user_id": users, "embedding": ["[1.0]"] * 4} | d))
save("bad-gap.parquet", pa.table({"user_id": users, "d0": [0.5] * 4, "d2": [0.5] * 4}))
save("bad-blank-id.parquet", pa.table({"user_id": ["u0", "u1 ", "u2", "u3"], "emb": [[1.0]] * 4}))
