#!/usr/bin/env python3
"""Recomputes the metrics of a finished run from its embeddings and the raw interaction files, in f64, by a full sort of all
scores, and compares them with what the run reported. Needs numpy and Python 3.11; uses nothing of Accord.

    python3 tests/metrics/check.py RUN_DIR [--data FOLDER]

Reads npz and pairs in three files (training, validation, test). Exit code 0: all metrics agree to 1e-6; 1: some do not;
2: the run or its data cannot be read by this script.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import numpy as np

TOLERANCE = 1e-6
# scores this close (relative to the largest) may be ranked either way by f32 arithmetic
NEAR = 1e-6
STEMS = {
    "train": ["trn", "train", "trn_mat"],
    "val": ["val", "valid", "validation", "val_mat", "dev"],
    "test": ["tst", "test", "tst_mat"],
}


def refuse(message):
    print(f"check.py: {message}", file=sys.stderr)
    sys.exit(2)


def embeddings(path):
    """The tensors `user` [users, d] and `item` [items, d] of a safetensors file, as f64."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    tables = []
    for name in ("user", "item"):
        entry = header[name]
        if entry["dtype"] != "F32":
            refuse(f"{path}: {name} is {entry['dtype']}, not F32")
        start, end = entry["data_offsets"]
        tables.append(np.frombuffer(body[start:end], "<f4").reshape(entry["shape"]).astype(np.float64))
    return tables


def part(folder, names, endings):
    found = [folder / f"{name}.{ending}" for name in names for ending in endings]
    found = [path for path in found if path.is_file()]
    if len(found) != 1:
        refuse(f"{folder}: needs one file of {', '.join(names)} ending in {', '.join(endings)}, has {len(found)}")
    return found[0]


def npz_pairs(path):
    archive = np.load(path)
    if "row" in archive:
        users, items = archive["row"], archive["col"]
    elif "indptr" in archive:
        items = archive["indices"]
        users = np.repeat(np.arange(len(archive["indptr"]) - 1), np.diff(archive["indptr"]))
    else:
        refuse(f"{path}: has neither row and col nor indptr and indices")
    return list(zip(users.tolist(), items.tolist()))


def text_pairs(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    separator = next((s for s in ("\t", "::", ",", ";") if s in lines[0]), None)
    rows = [[field.strip() for field in line.split(separator)] for line in lines]
    if any(word.isalpha() for word in rows[0][:2]) and not any(word.isalpha() for word in rows[-1][:2]):
        rows = rows[1:]
    return [(row[0], row[1]) for row in rows]


def numbered(folder, name, tokens):
    """Internal id of each external id: users.txt or items.txt fixes them, else by value, else by their bytes."""
    fixed = folder / f"{name}s.txt"
    if fixed.is_file():
        order = [line.strip() for line in fixed.read_text().splitlines()]
    elif all(token.isdigit() and str(int(token)) == token for token in tokens):
        order = sorted(tokens, key=int)
    else:
        order = sorted(tokens, key=str.encode)
    return {token: number for number, token in enumerate(order)}


def interactions(job, folder):
    """Sets of (user, item) by internal ids: training, validation, test, as a run uses them."""
    data = job["data"]
    kind = data.get("format", "npz")
    if data.get("min_rating") is not None or data.get("synthetic") is not None:
        refuse("data.min_rating and data.synthetic are not understood by this script")
    if kind == "npz":
        parts = [npz_pairs(part(folder, names, ["npz"])) for names in STEMS.values()]
    elif kind == "pairs":
        raw = [text_pairs(part(folder, names, ["txt", "csv", "tsv", "dat"])) for names in STEMS.values()]
        users, items = (
            numbered(folder, name, {pair[at] for pairs in raw for pair in pairs}) for at, name in enumerate(("user", "item"))
        )
        parts = [[(users[u], items[i]) for u, i in pairs] for pairs in raw]
    else:
        refuse(f"data.format = {kind!r} is not understood by this script")
    train, validation, test = map(set, parts)
    test -= train
    return train, validation - train - test, test


def by_user(pairs, users):
    rows = [set() for _ in range(users)]
    for user, item in pairs:
        rows[user].add(item)
    return rows


def evaluate(user, item, train, held_out, metrics, ks):
    """{metric: {k: value}}, the users with held-out items, and the pairs of near scores whose order matters."""
    trained, relevant = by_user(train, len(user)), by_user(held_out, len(user))
    evaluated = [u for u in range(len(user)) if relevant[u]]
    sums = {name: dict.fromkeys(ks, 0.0) for name in metrics}
    seen = {k: set() for k in ks}
    near = 0
    for u in evaluated:
        scores = item @ user[u]
        ranking = [i for i in np.lexsort((np.arange(len(item)), -scores)).tolist() if i not in trained[u]]
        wanted = relevant[u]
        hits = [rank for rank, i in enumerate(ranking, 1) if i in wanted]
        gap = NEAR * max(np.abs(scores).max(), 1e-30)
        for rank, (a, b) in enumerate(zip(ranking, ranking[1 : max(ks) + 1]), 1):
            matters = (a in wanted) != (b in wanted) or rank in seen
            near += bool(matters and scores[a] - scores[b] < gap)
        for k in ks:
            first = [rank for rank in hits if rank <= k]
            ideal = min(k, len(wanted))
            value = {
                "recall": len(first) / len(wanted),
                "ndcg": sum(1 / np.log2(rank + 1) for rank in first)
                / sum(1 / np.log2(rank + 1) for rank in range(1, ideal + 1)),
                "precision": len(first) / k,
                "hit": float(bool(first)),
                "mrr": 1 / first[0] if first else 0.0,
                "map": sum((n + 1) / rank for n, rank in enumerate(first)) / ideal,
                "coverage": 0.0,
            }
            for name in metrics:
                sums[name][k] += value[name]
            seen[k].update(ranking[:k])
    values = {name: {k: total / max(len(evaluated), 1) for k, total in at.items()} for name, at in sums.items()}
    if "coverage" in values:
        values["coverage"] = {k: len(items) / len(item) for k, items in seen.items()}
    return values, len(evaluated), near


def compare(title, reported, computed, users, near):
    print(f"{title}: {users} users, {near} near ties whose order matters")
    worst = 0.0
    for name, at in reported.items():
        for k, value in at.items():
            other = computed[name][int(k)]
            off = abs(value - other)
            worst = max(worst, off)
            print(f"  {name + '@' + k:<14} run {value:.10f}  recomputed {other:.10f}  off {off:.1e}")
    print(f"  worst: {worst:.1e}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--data", type=Path, help="folder of the interactions [default: data.path of the run's job]")
    args = parser.parse_args()
    run = args.run_dir
    try:
        job = tomllib.loads((run / "job.toml").read_text())
        summary = json.loads((run / "summary.json").read_text())
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        folder = args.data or Path((run / "job_root.txt").read_text().strip()) / job["data"]["path"]
        user, item = embeddings(run / "export" / "embeddings.safetensors")
    except OSError as error:
        refuse(f"{run} is no finished run: {error}")
    train, validation, test = interactions(job, folder)
    reported = dict(summary["test"])
    users = reported.pop("users")
    metrics, ks = list(reported), sorted({int(k) for at in reported.values() for k in at})
    computed, evaluated, near = evaluate(user, item, train, test, metrics, ks)
    if evaluated != users:
        refuse(f"the run evaluated {users} users, the files of {folder} have {evaluated}: is it the same data?")
    worst = compare(f"test, epoch {summary['best_epoch']}", reported, computed, evaluated, near)
    # the exported embeddings are those of the best epoch: its validation can be recomputed too
    best = [e for e in lines if e["kind"] == "eval" and e["split"] == "val" and e["epoch"] == summary["best_epoch"]]
    reported = {name: at for name, at in best[-1].items() if isinstance(at, dict)}
    computed, evaluated, near = evaluate(user, item, train, validation, metrics, ks)
    worst = max(worst, compare(f"validation, epoch {summary['best_epoch']}", reported, computed, evaluated, near))
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
