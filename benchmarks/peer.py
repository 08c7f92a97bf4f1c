"""Run a peer's script, unmodified: ``python benchmarks/peer.py SCRIPT [its flags]``.

The scripts import torchvision for resizing pictures. Its released wheels are CUDA builds, which
beside a CPU build of PyTorch cannot register two of their operators (not used here) and then
refuse to be imported; declaring the operators first is all that is missing.
"""

import os
import runpy
import sys

import torch

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    if os.environ.get("PEER_SITE"):
        sys.path.append(os.environ["PEER_SITE"])
    if not torch.cuda.is_available():
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    runpy.run_path(sys.argv[0], run_name="__main__")
