"""The one place that opens encoded pictures, with bounds that the header tells, before anything is decoded.

formats    those that are read by their suffix; Pillow knows forty more, of which one runs another program
pixels     at most PIXELS_AT_MOST; a larger picture is taken for a decompression bomb
memory     at most MEMORY_AT_MOST, and what is free
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from bothways import budget

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "TIFF")
PIXELS_AT_MOST = 64_000_000
MEMORY_AT_MOST = 1e9  # bytes to decode one picture, and to make it RGB
ALWAYS_READ = 32_000_000  # bytes for which the free memory is not looked up, as for most pictures
PLAIN, DEEP, PACKED = 14, 18, 24  # bytes a pixel, as measured: of 8 bits a channel, of more, of WebP


@contextmanager
def opened(data: bytes, formats: Sequence[str] = FORMATS, pixels: int = PIXELS_AT_MOST) -> Iterator[Image.Image]:
    """A context with the picture that some bytes encode, of which the header alone is read.

    pixels: at most. Raises ValueError, in a line without the name of the file, for what is no picture, for too many
    pixels or too much memory, and for whatever a decoder raises within the context.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, beside pixels that are whole
            with Image.open(io.BytesIO(data), formats=tuple(formats)) as picture:
                check_size(picture, pixels)
                yield picture
    except UnidentifiedImageError as error:  # whose own words are the address of a buffer
        raise ValueError("no image that can be read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"its pixels are more than {pixels}") from error
    except MemoryError as error:
        raise ValueError("no memory is left to decode it") from error
    except Exception as error:  # a damaged file makes its decoder raise anything
        said = " ".join(str(error).split())
        raise ValueError(said or f"damaged ({type(error).__name__})") from error


def check_size(picture: Image.Image, pixels: int = PIXELS_AT_MOST, more: float = 0.0) -> None:
    """Raise ValueError for a picture with too many pixels, or that would take too much memory.

    more: bytes that the caller makes of it.
    """
    wide, high = picture.size
    told = f"{wide} x {high} pixels"
    if not wide * high:
        raise ValueError(told)
    if wide * high > pixels:
        raise ValueError(f"{told} are more than {pixels}")
    own = PACKED if picture.format == "WEBP" else DEEP if picture.mode[:1] in "IF" else PLAIN
    if own * wide * high > MEMORY_AT_MOST:
        raise ValueError(
            f"{told} would take about {budget.amount(own * wide * high)} of memory, more than "
            f"{budget.amount(MEMORY_AT_MOST)}"
        )
    need = own * wide * high + more
    if need > ALWAYS_READ and need > (free := budget.free_memory()):
        raise ValueError(f"{told} would take about {budget.amount(need)} of memory, and {budget.amount(free)} are free")
