#!/usr/bin/env python3
"""Checkpoints as torch itself writes them, for tests/test_torch.c, which knows the values.
Made with torch 1.13; any version since 1.6 gives files with the same content.
usage: make_fixtures.py    (writes beside itself)"""
import argparse
import collections
import os
import zipfile

import numpy
import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
base = torch.arange(12, dtype=torch.float32).reshape(3, 4)  # element i is i

plain = {
    "f32": base,
    "bf16": torch.tensor([1.0, -2.5, 3.140625]).bfloat16(),
    "f16": torch.tensor([0.5, -65504.0]).half(),
    "f64": torch.tensor([1e300], dtype=torch.float64),
    "i64": torch.tensor([-(2**40), 7]),
    "i32": torch.tensor([[-5], [6]], dtype=torch.int32),
    "i8": torch.tensor([-128, 127], dtype=torch.int8),
    "u8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(42.0),
    "empty": torch.zeros(0, 4),
    "transposed": base.t(),  # shares the storage of f32
    "row": base[1],  # shares it, offset 4
    "column": base[:, 2],  # shares it, stride 4
    "expanded": base[0, :2].expand(3, 2),  # shares it, stride 0
    "parameter": torch.nn.Parameter(torch.tensor([9.0])),
}
torch.save(plain, "plain.pth")

layers = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.LayerNorm(1))
for p in layers.parameters():
    torch.nn.init.constant_(p, 0.25)
torch.save(layers.state_dict(), "ordered.pth")  # OrderedDict with _metadata

nested = {
    "epoch": 3,
    "loss": numpy.float64(0.5),
    "args": argparse.Namespace(lr=1e-4, size=torch.Size([1, 2]), device=torch.device("cpu")),
    "history": collections.defaultdict(list, a=[1, 2]),
    "dtype": torch.bfloat16,
    "names": {"x", "y"},
    "big": 2**100,
    "top": torch.zeros(1),  # not part of the state dict
    "state_dict": {"inside": base},
    "optimizer": {"state": {0: {"momentum": torch.zeros(1)}}},
}
torch.save(nested, "nested.pth")
torch.save({"a": base, "b": base[2]}, "protocol4.pth", pickle_protocol=4)
torch.save({"a": torch.tensor([1.0])}, "legacy.pth", _use_new_zipfile_serialization=False)

with zipfile.ZipFile("ordered.pth") as src:
    with zipfile.ZipFile("compressed.pth", "w", zipfile.ZIP_DEFLATED) as dst:
        for name in src.namelist():
            dst.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), src.read(name),
                         zipfile.ZIP_DEFLATED)
