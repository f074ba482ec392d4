"""Pictures on disk: uint8 sRGB [h w 3], or one channel [h w]."""

import io
from pathlib import Path

import numpy as np

from avatar.errors import InputError
from avatar.media.files import write_bytes

_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}


def read_image(path: Path, *, gray: bool = False) -> np.ndarray:
    """Read a picture, turned as its EXIF tag says; transparency is dropped.

    Returns:
        uint8 [h w 3], or [h w] when `gray`.

    Raises:
        InputError: when the file is missing, damaged or no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            mode = "L" if gray else "RGB"
            return np.asarray(image if image.mode == mode else image.convert(mode))
    except FileNotFoundError:
        raise InputError(f"{path}: picture is missing") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not readable as a picture ({error}); give a JPEG or PNG") from None


def encode_image(pixels: np.ndarray, kind: str, *, quality: int = 95) -> bytes:
    """Encode uint8 [h w], [h w 3] or [h w 4] as "JPEG" (4:4:4), "PNG" (light compression), "WEBP" or "BMP"."""
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, got {pixels.dtype}")
    options = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "PNG": {"compress_level": 1},
        "WEBP": {"quality": quality},
    }
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options.get(kind, {}))
    return buffer.getvalue()


def encode_map(pixels: np.ndarray) -> bytes:
    """Encode uint8 [h w] that is alike over wide areas, as masks and labels are, as a PNG.

    OpenCV tries one filter of lines where Pillow tries five: a third of the time for a mask, and no larger.
    """
    import cv2

    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise ValueError(f"pixels must be uint8 [h w], got {pixels.dtype} {list(pixels.shape)}")
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_image(path: Path, pixels: np.ndarray, *, quality: int = 95) -> None:
    """Write a picture whole or not at all; the format follows the suffix.

    Args:
        pixels: uint8 [h w], [h w 3], or [h w 4] with straight alpha (PNG and WebP only).

    Raises:
        InputError: on an unknown suffix or when the disk refuses.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: unknown kind of picture; end the name in {', '.join(_SUFFIXES)}")
    write_bytes(path, encode_image(pixels, kind, quality=quality))
