"""Weights that come inside ordinary Python packages, run offline by ONNX Runtime.

The packages are only containers: none of their code is imported. ``make photos`` installs them.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

# SHA-256 of every file that is used, as its package published it.
WEIGHTS = {
    "age-v1.onnx": "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
    "centerface.onnx": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
    "gender-v1.onnx": "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
    "open-nsfw.onnx": "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
}


def find(distribution: str, name: str) -> Path:
    """Return the path of a weight file inside an installed distribution.

    Raises
    ------
    FileNotFoundError
        If the package, or the file in it, is missing.
    ValueError
        If the file is not the one in `WEIGHTS`.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(
            f"the weights {name} come with the package {distribution}, which is not installed: "
            "run `make photos`"
        ) from None
    for entry in files:
        if entry.name == name:
            path = Path(str(entry.locate()))
            if digest(path) != WEIGHTS[name]:
                raise ValueError(
                    f"{path} is not the file that {distribution} published (another SHA-256): "
                    f"`python -m pip uninstall {distribution}`, then `make photos`"
                )
            return path
    raise FileNotFoundError(f"{distribution} holds no {name}: run `make photos` again")


@cache
def digest(path: Path) -> str:
    """Return the SHA-256 of a weight file."""
    return sha256(path.read_bytes()).hexdigest()


class Session:
    """An ONNX model on the CPU, with any batch size and picture size.

    Parameters
    ----------
    path : pathlib.Path
        The model.
    threads : int
        Part of the numerics, as everywhere.
    """

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                f"photograph raters need the package {error.name}: run `make photos`"
            ) from error
        model = onnx.load(path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [i for i in model.graph.input if i.name not in weights]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        # Exported for one size; the layers do not mind.
        for value in (*model.graph.input, *model.graph.output):
            for axis, size in enumerate(value.type.tensor_type.shape.dim):
                if axis != 1 or len(value.type.tensor_type.shape.dim) == 2 and axis == 0:
                    size.dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.input = inputs[0].name
        self.session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, array: np.ndarray) -> list[np.ndarray]:
        """Run on one float32 array; returns all outputs."""
        return self.session.run(None, {self.input: np.ascontiguousarray(array, np.float32)})
