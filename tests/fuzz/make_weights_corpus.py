#!/usr/bin/env python3
"""First inputs for fuzz_safetensors, fuzz_pickle and fuzz_json, from the torch files in
tests/data/weights and from a few lines below.
usage: make_weights_corpus.py    (writes tests/fuzz/corpus)"""
import json
import os
import shutil
import struct
import zipfile

here = os.path.dirname(os.path.abspath(__file__))
fixtures = os.path.join(here, "..", "data", "weights")


def put(target, name, data):
    folder = os.path.join(here, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def safetensors(header, n_data):
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(n_data))


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


put("safetensors", "two", safetensors({"__metadata__": {"format": "pt"},
                                       "a": tensor("F32", [2], 0, 8),
                                       "b.c": tensor("BF16", [2, 1, 3], 8, 20)}, 20))
put("safetensors", "empty", safetensors({}, 0))
put("safetensors", "scalar", safetensors({"s": tensor("U8", [], 0, 1),
                                          "n": tensor("I64", [0, 4], 1, 1)}, 1))
put("safetensors", "overlap", safetensors({"a": tensor("U8", [4], 0, 4),
                                           "b": tensor("U8", [4], 2, 6)}, 6))
put("safetensors", "huge_shape", safetensors({"a": tensor("F32", [2**33, 2**33], 0, 0)}, 0))
for name in ("plain", "ordered", "nested", "protocol4"):
    shutil.copyfile(os.path.join(fixtures, name + ".pth"),
                    os.path.join(here, "corpus", "safetensors", name + ".pth"))
    with zipfile.ZipFile(os.path.join(fixtures, name + ".pth")) as z:
        put("pickle", name, z.read(name + "/data.pkl"))
put("pickle", "global", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
put("pickle", "memo", b"\x80\x02}r\xff\xff\xff\x7f.")
put("pickle", "marks", b"\x80\x04((((t\x94h\x00\x86\x87}(h\x00h\x00u0.")

put("json", "config", json.dumps({"model_type": "dual_ar", "dim": 1024, "norm_eps": 1e-06,
                                  "tie": False, "n_local_heads": None,
                                  "list": [1, [2.5, {"k": "v"}], []], "o": {}}, indent=4).encode())
put("json", "strings", '["\\u00e9\\ud83d\\ude00 \\"\\\\\\/\\b\\f\\n\\r\\t", "ü€😀", ""]'.encode())
put("json", "numbers", b"[0, -0, -0.0, 1e308, 5e-324, 9223372036854775807, 123456789.125, 1E+2]")
put("json", "bom", b"\xef\xbb\xbf{}")
put("json", "deep", b"[" * 64 + b"]" * 64)
put("json", "too_deep", b"[" * 65 + b"]" * 65)
put("json", "duplicate", b'{"a": 1, "a": 2}')
