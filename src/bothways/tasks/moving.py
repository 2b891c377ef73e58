"""A film as a file: an animated GIF, or a video where the extra ``video`` is installed.

A GIF has 256 colours a frame, chosen for that frame. It is made smaller until it is a few megabytes.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from bothways.runs.files import replace_file
from bothways.tasks.film import Film
from bothways.types import RunError, UserError

GIF, MP4 = "drawing.gif", "drawing.mp4"  # in the run folder
TICK = 80  # milliseconds a frame is shown
FIRST, LAST = 400, 2000  # and the first and the last one
BYTES_AT_MOST = 4_000_000  # of a GIF, about
SIDES = (512, 448, 384, 320, 256, 192, 128)  # pixels, the largest that fits
SAMPLE = 5  # frames from which the bytes of a size are estimated
SEEN = 96  # pixels a side from which the colours of a frame are chosen
RATE = 25  # frames of a video a second
QUALITY = 8.0  # of 10
NEEDS_VIDEO = '--mp4 needs imageio-ffmpeg, which is not installed; type pip install "bothways[video]", or --gif'


def durations(frames: int) -> list[int]:
    """The milliseconds that each frame is shown."""
    shown = [TICK] * frames
    shown[:1], shown[-1:] = [FIRST], [LAST]
    return shown[:frames]


def check_video() -> None:
    """Raise UserError where no video can be written on this machine."""
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError as error:
        raise UserError(NEEDS_VIDEO) from error
    except RuntimeError as error:
        raise UserError("--mp4: imageio-ffmpeg finds no ffmpeg for this machine; type --gif") from error


def write_moving(film: Film) -> None:
    """Write the film into its run folder, as each of its kinds; nothing where the run has no folder."""
    if film.folder is not None and "gif" in film.kinds:
        write_gif(film, film.folder / GIF)
    if film.folder is not None and "mp4" in film.kinds:
        write_mp4(film, film.folder / MP4)


def write_gif(film: Film, path: Path) -> Path:
    """Write the film as a GIF that starts again at its end. Raises UserError or RunError if it cannot be."""
    frames = list(film.frames())
    replace_file(path, _gif(_fitting(frames)))
    return path


def write_mp4(film: Film, path: Path) -> Path:
    """Write the film as a video (H.264, no sound). Raises UserError without the extra, RunError if it fails."""
    check_video()
    import imageio_ffmpeg

    frames = list(film.frames())
    with tempfile.TemporaryDirectory(prefix="bothways-") as place:
        whole = Path(place) / MP4
        settings = {"fps": RATE, "quality": QUALITY, "macro_block_size": 2, "ffmpeg_log_level": "error"}
        try:
            writer = imageio_ffmpeg.write_frames(
                str(whole), frames[0].size, codec="libx264", output_params=["-movflags", "+faststart"], **settings
            )
            writer.send(None)
            for frame, shown in zip(frames, durations(len(frames)), strict=True):
                for _ in range(max(1, shown * RATE // 1000)):
                    writer.send(frame.tobytes())
            writer.close()
            content = whole.read_bytes()
        except OSError as error:
            said = str(error).strip().splitlines()
            raise RunError(f"{path}: ffmpeg failed ({said[-1] if said else error}); type --gif instead") from error
    replace_file(path, content)
    return path


def _fitting(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """The frames at the largest of SIDES at which some of them promise a GIF of at most BYTES_AT_MOST."""
    sample = frames[:: -(-len(frames) // SAMPLE)]
    side = max(frames[0].size)
    while (size := len(_gif([_at_most(side, frame) for frame in sample])) / len(sample) * len(frames)) > BYTES_AT_MOST:
        promised = side * (BYTES_AT_MOST / size) ** 0.5  # the bytes grow as the area
        smaller = [other for other in SIDES if other < side]
        if not smaller:
            break
        side = next((other for other in smaller if other <= 1.1 * promised), smaller[-1])
    return [_at_most(side, frame) for frame in frames]


def _at_most(side: int, frame: Image.Image) -> Image.Image:
    if max(frame.size) <= side:
        return frame
    scale = side / max(frame.size)
    return frame.resize((round(scale * frame.width), round(scale * frame.height)), Image.Resampling.LANCZOS)


def _gif(frames: Sequence[Image.Image]) -> bytes:
    first, *rest = map(_in_colours, frames)
    buffer = io.BytesIO()
    shown = durations(len(frames))
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=shown, loop=0, optimize=False)
    return buffer.getvalue()


def _in_colours(frame: Image.Image) -> Image.Image:
    """A frame in 256 colours, chosen by median cut. On all pixels that takes ten times as long and is hardly nearer."""
    few = frame.resize([min(side, SEEN) for side in frame.size], Image.Resampling.NEAREST)
    return frame.quantize(palette=few.quantize(256, Image.Quantize.MEDIANCUT), dither=Image.Dither.NONE)
