#!/usr/bin/env python3
"""A small GGUF file with random blocks of every element type strata reads, and what the gguf library makes of them as float.

  python3 tests/golden/gguf_blocks.py        writes tests/golden/gguf/blocks.gguf and expected.safetensors
"""
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parent / "gguf"
BLOCK_BYTES = {T.Q4_0: (32, 18), T.Q4_1: (32, 20), T.Q5_0: (32, 22), T.Q5_1: (32, 24), T.Q8_0: (32, 34), T.Q4_K: (256, 144),
               T.Q5_K: (256, 176), T.Q6_K: (256, 210)}
# Where each format keeps its half-precision scales: random bytes there would often be NaN.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def main():
    OUT.mkdir(exist_ok=True)
    draw = np.random.default_rng(3)
    writer = gguf.GGUFWriter(OUT / "blocks.gguf", "llama")
    writer.add_uint32("test.whole", 7)
    writer.add_array("test.words", ["a", "b c", "é"])
    expected = {}
    for kind, (values, size) in BLOCK_BYTES.items():
        raw = draw.integers(0, 256, (3, 2 * size), dtype=np.uint8)  # three rows of two blocks
        for block in range(2):
            for at in HALVES[kind]:
                scales = draw.normal(0, 0.1, 3).astype(np.float16)
                raw[:, block * size + at: block * size + at + 2] = scales.view(np.uint8).reshape(3, 2)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
        expected[kind.name] = gguf.dequantize(raw, kind).astype(np.float32)
    plain = draw.normal(0, 1, (3, 5)).astype(np.float32)
    writer.add_tensor("F32", plain)
    writer.add_tensor("F16", plain.astype(np.float16))
    expected["F32"], expected["F16"] = plain, plain.astype(np.float16).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, OUT / "expected.safetensors")


if __name__ == "__main__":
    main()
