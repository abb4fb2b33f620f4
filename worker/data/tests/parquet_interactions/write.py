#!/usr/bin/env python3
"""Writes the fixtures of this folder; wants pyarrow (26.0.1 wrote those that are committed)."""
import datetime, pathlib
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
