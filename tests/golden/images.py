#!/usr/bin/env python3
"""Goldens of images: small PNG and JPEG files, and what Pillow reads from them and makes of them.

Writes tests/golden/images/: `<class>/<name>.png|jpg` and expected.safetensors with, for each name, `<name>.rgb` and `<name>.grey`
(height x width x channels, bytes) and `<name>.resized` (RGB, 12 x 12 by the bilinear filter).
"""
import pathlib
import shutil

import numpy
import safetensors.numpy
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent / "images"


def smooth(width, height, channels, seed):
    """Waves: what a lossy format keeps well."""
    y, x = numpy.mgrid[0:height, 0:width]
    planes = [127 + 100 * numpy.sin(x / (3.0 + c) + seed) * numpy.cos(y / (4.0 - c) + seed) for c in range(channels)]
    return numpy.stack(planes, axis=-1).round().astype(numpy.uint8)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    pictures = {
        "ankle/large": (Image.fromarray(smooth(31, 23, 3, 0.3)), "png"),
        "ankle/grey": (Image.fromarray(smooth(9, 14, 1, 1.1)[:, :, 0]), "png"),
        "shirt/photo": (Image.fromarray(smooth(40, 28, 3, 2.0)), "jpg"),
        "shirt/exact": (Image.fromarray(smooth(12, 12, 3, 0.7)), "png"),
    }
    expected = {}
    for name, (picture, ending) in pictures.items():
        path = OUT / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **({"quality": 95, "subsampling": 0} if ending == "jpg" else {}))
        read = Image.open(path)
        short = name.split("/")[1]
        expected[f"{short}.rgb"] = numpy.asarray(read.convert("RGB"))
        expected[f"{short}.grey"] = numpy.asarray(read.convert("L"))[:, :, None]
        expected[f"{short}.resized"] = numpy.asarray(read.convert("RGB").resize((12, 12), Image.Resampling.BILINEAR))
    safetensors.numpy.save_file({k: numpy.ascontiguousarray(v) for k, v in expected.items()}, OUT / "expected.safetensors")


if __name__ == "__main__":
    main()
