"""One function that opens a stranger's picture: three formats, a limit of size, upright, 8 bits.

What it does with what cameras, phones and editors write: docs/measurement.md, "Photographs as they
come".
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder is started, Ghostscript among them
MOST_PIXELS = 50_000_000  # a picture of 50 megapixels takes 0.2 GB while it is opened


class Opened(NamedTuple):
    """A picture: ``pixels``, uint8 (height, width, 3), and how many ``frames`` its file has."""

    pixels: np.ndarray
    frames: int


def open_picture(data: bytes) -> Opened:
    """Open the bytes of a PNG, JPEG or WebP file as RGB, upright, on white.

    The EXIF orientation is carried out (a damaged one counts as upright); 16 bits become 8 by
    division by 256; transparent parts lie on white; palettes, grey and CMYK become RGB without
    colour management; of an animation the first frame is taken.

    Raises
    ------
    ValueError
        With the rest of a sentence that begins with the picture ("is empty", "is damaged ...").
    """
    if not data:
        raise ValueError("is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at below; of odd tags
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                if image.format == "PNG":  # its checksums, which decoding passes over
                    with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
                        again.verify()
                return Opened(_upright(image), int(getattr(image, "n_frames", 1)))
    except Image.DecompressionBombError:
        raise ValueError(
            f"has more than {MOST_PIXELS // 1_000_000} million pixels: make it smaller"
        ) from None
    except Image.UnidentifiedImageError:
        raise ValueError("is no PNG, JPEG or WebP file, or only the beginning of one") from None
    except MemoryError:
        raise
    except Exception as error:  # whatever damaged or hostile bytes make the decoders raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"is damaged ({reason})") from error


def _upright(image: Image.Image) -> np.ndarray:
    image.load()
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # viewers, too, show a picture whose EXIF is damaged as it is stored
        turned = image
    if turned.mode.startswith("I"):
        turned = _eight_bits(turned)
    if turned.has_transparency_data:
        seen = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.asarray(turned.convert("RGB"))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey picture in 8 bits, as Pillow does with 16-bit colours by itself."""
    deep = np.asarray(image)
    clear = image.info.get("transparency")  # one grey level that PNG may call transparent
    grey = (deep // 256).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.where(deep == clear, 255, grey) if clear is not None else grey)


def square(pixels: np.ndarray) -> np.ndarray:
    """Cut a picture, (height, width, 3), at its centre to a square of its shorter side."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
