#!/usr/bin/env python3
"""Writes the fixtures of this folder; wants pyarrow (26.0.1 wrote those that are committed)."""
import datetime, decimal, pathlib
import pyarrow as pa, pyarrow.parquet as pq

here = pathlib.Path(__file__).resolve().parent
pairs = sorted({(u, (u + k * k) % 7) for u in range(6) for k in range(5)})
users = [f"U{u}" for u, _ in pairs]
items = [i for _, i in pairs]
times = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=k) for k in range(len(pairs))]


def write(name, columns, **options):
    path = here / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


write("typed.parquet", {
    "when": pa.array(times, pa.timestamp("us")), "customer_id": users, "note": [[0.5, k] for k in range(len(pairs))],
    "product_id": pa.array(items, pa.int32()), "stars": [float(1 + k % 5) for k in range(len(pairs))],
    "timestamp": pa.array(times, pa.timestamp("ms")),
}, compression="snappy", row_group_size=10)
for part in range(3):
    rows = slice(part * 8, part * 8 + 8)
    write(f"parts/part-{part:05}.zstd.parquet", {"user": users[rows], "item": items[rows]}, compression="zstd")
(here / "parts" / "_SUCCESS").write_text("")
write("null-user.parquet", {"user": users[:-1] + [None], "item": items})
write("float-items.parquet", {"user": users, "item": [float(i) for i in items]})
write("unknown.parquet", {"wer": users, "was": items})

# ratings 0 to 4 in every kind that is read; a rating of 0 is no interaction
stars = [k % 5 for k in range(len(pairs))]
tenths = pa.array([decimal.Decimal(k) for k in stars], pa.decimal128(9, 1))
rated = {"user": users, "item": items}
write("rated-decimal.parquet", rated | {"stars": tenths})
write("rated-decimal32.parquet", rated | {"stars": tenths}, store_decimal_as_integer=True)
write("rated-decimal64.parquet", rated | {"stars": tenths.cast(pa.decimal128(18, 3))}, store_decimal_as_integer=True)
write("rated-string.parquet", rated | {"stars": [f" {k}.0" for k in stars]})
write("rated-category.parquet", rated | {"stars": pa.array([str(k) for k in stars]).dictionary_encode()})
write("rated-date.parquet", rated | {"stars": times})
# columns that nobody asks for and that are not read
write("unread.parquet", rated | {
    "raw": [bytes([255, k]) for k in stars], "body": ["x" * 70_000] + ["x"] * (len(stars) - 1),
    "hash": pa.array([2**63 + k for k in stars], pa.uint64()), "delta": [f"a{k}" for k in stars],
}, use_dictionary=False, column_encoding={"delta": "DELTA_BYTE_ARRAY"})
write("large-users.parquet", {"user": pa.array([2**63 + int(u[1:]) for u in users], pa.uint64()), "item": items})
write("blank-user.parquet", {"user": ["U0 "] + users[1:], "item": items})
