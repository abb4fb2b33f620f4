#!/usr/bin/env python3
"""Pickles the same matrices and tables with the numpy and scipy of the interpreter that runs this, into a zip archive
named after their versions. Python 2.7 and 3.7 up. README.md says which versions made the archives beside this file."""
import io
import pickle
import sys
import zipfile

import numpy as np
import scipy
import scipy.sparse as sp

ROW, COL, SHAPE = [0, 0, 1, 3, 3], [0, 2, 1, 0, 2], (4, 3)
VALUES = [5, 1, 3, 2, 4]
TABLE = [[0.5, -1.0], [2.0, 0.1], [0.001, 1024.0]]
# users x items of the three parts; the text tables have a row for each user or item
PARTS = {"trn": ([0, 1, 2, 3], [0, 1, 2, 0]), "val": ([0, 1], [1, 2]), "tst": ([0, 2, 3], [2, 0, 1])}
TEXTS = {"usr_emb_np": 4, "itm_emb_np": 3, "user_intent_emb_3": 4, "item_intent_emb_3": 3}

files = {}


def dump(name, value, protocol=None):
    kept = pickle.dumps(value, protocol if protocol is not None else max(2, pickle.DEFAULT_PROTOCOL))
    files[name] = kept


def matrix(kind, dtype, values=VALUES):
    entries = (np.array(values).astype(dtype), (np.array(ROW, "i4"), np.array(COL, "i4")))
    return getattr(sp, kind)(sp.coo_matrix(entries, shape=SHAPE))


def table(dtype, order="C", rows=None):
    values = TABLE if rows is None else [[k + 0.5, -k] for k in range(rows)]
    return np.array(values, dtype=dtype, order=order)


if not hasattr(pickle, "DEFAULT_PROTOCOL"):
    pickle.DEFAULT_PROTOCOL = 2
protocols = range(2, pickle.HIGHEST_PROTOCOL + 1)
arrays = hasattr(sp, "coo_array")
for protocol in protocols:
    dump("coo_matrix-f8-p%d" % protocol, matrix("coo_matrix", "f8"), protocol)
    dump("csr_matrix-f4-p%d" % protocol, matrix("csr_matrix", "f4"), protocol)
    dump("csc_matrix-b1-p%d" % protocol, matrix("csc_matrix", "b1"), protocol)
    dump("table-f4-C-p%d" % protocol, table("f4"), protocol)
    dump("table-f8-F-p%d" % protocol, table("f8", "F"), protocol)
    if arrays:
        dump("coo_array-i8-p%d" % protocol, matrix("coo_array", "i8"), protocol)
for protocol in sorted({2, pickle.HIGHEST_PROTOCOL}):
    dump("csr_matrix-i1-p%d" % protocol, matrix("csr_matrix", "i1"), protocol)
    dump("csc_matrix-u1-p%d" % protocol, matrix("csc_matrix", "u1"), protocol)
    dump("table-f2-C-p%d" % protocol, table("f2"), protocol)
    dump("table-f2-F-p%d" % protocol, table("f2", "F"), protocol)
    if arrays:
        dump("csr_array-u4-p%d" % protocol, matrix("csr_array", "u4"), protocol)
        dump("csc_array-i2-p%d" % protocol, matrix("csc_array", "i2"), protocol)
    wide = matrix("csr_matrix", "f8")
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    dump("csr_matrix-f8-wide_ids-p%d" % protocol, wide, protocol)
    numpy_shape = matrix("coo_matrix", "i4")
    numpy_shape._shape = (np.int64(SHAPE[0]), np.int32(SHAPE[1]))
    dump("coo_matrix-i4-numpy_shape-p%d" % protocol, numpy_shape, protocol)
    view = np.zeros((6, 4), "f4")
    view[::2, ::2] = TABLE
    dump("table-f4-view-p%d" % protocol, view[::2, ::2], protocol)
    fixed = table("f8")
    fixed.flags.writeable = False
    dump("table-f8-readonly-p%d" % protocol, fixed, protocol)
for part, (row, col) in PARTS.items():
    kept = sp.coo_matrix((np.ones(len(row)), (row, col)), shape=SHAPE)
    dump("official/%s_mat.pkl" % part, kept if part == "trn" else kept.tocsr())
for name, rows in TEXTS.items():
    dump("official/%s.pkl" % name, table("f8", rows=rows))

version = "numpy-%s-scipy-%s-python-%d.%d.zip" % ((np.__version__, scipy.__version__) + sys.version_info[:2])
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    for name in sorted(files):
        archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
with io.open(version, "wb") as out:
    out.write(buffer.getvalue())
print("%s: %d pickles, %d bytes" % (version, len(files), sum(map(len, files.values()))))
