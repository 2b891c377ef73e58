"""The drawing as it unfolds: the steps that are kept, what a GIF and a video show, and that a resume changes no bit."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bothways
from bothways import RunError, UserError
from bothways.numerics.draws import Draws
from bothways.runs import RunFolder, from_png
from bothways.tasks import film as film_room
from bothways.tasks import moving
from bothways.tasks.film import FRAMES, SIDE, Film, kept_steps
from bothways.tasks.moving import FIRST, LAST, TICK, durations
from command import refused, run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
PALETTE = 12.0  # of 255: the mean difference that 256 colours a frame may make


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames of a GIF as RGB, and the milliseconds of each."""
    found, shown = [], []
    with Image.open(path) as picture:
        assert picture.format == "GIF"
        assert picture.info["loop"] == 0
        for k in range(picture.n_frames):
            picture.seek(k)
            found.append(np.asarray(picture.convert("RGB")).astype(int))
            shown.append(picture.info["duration"])
    return found, shown


def noise(seed: int, *size: int) -> torch.Tensor:
    return (255 * Draws([seed]).uniform((3, *size))[0]).round() / 255


# ---- which steps, which tiles --------------------------------------------------------------------------------------


def test_the_kept_steps_begin_at_the_start_and_stand_ever_further_apart() -> None:
    assert kept_steps(0) == (0,)
    assert kept_steps(5) == (0, 1, 2, 3, 4, 5)
    assert kept_steps(31) == tuple(range(32))
    for steps in (32, 96, 512, 100_000):
        kept = kept_steps(steps)
        assert (kept[0], kept[-1]) == (0, steps)
        assert len(kept) <= FRAMES
        between = np.diff(kept)
        assert between.min() >= 1
        assert between[:4].max() < between[-4:].min()
        assert sum(step <= steps / 4 for step in kept) >= len(kept) // 3  # an even spacing has a quarter


def test_a_target_has_its_row_and_more_than_eight_make_a_square() -> None:
    two = Film.of({0: "ship", 1: "frog", 2: "ship", 3: "frog", 4: "ship", 5: "frog"}, 4)
    assert (list(two.pictures), two.columns, two.rows) == ([0, 2, 4, 1, 3, 5], 3, 2)
    one = Film.of(dict.fromkeys(range(5), "ship"), 4)
    assert (one.columns, one.rows) == (3, 2)
    assert (Film.of({7: None}, 4).columns, Film.of({7: None}, 4).rows) == (1, 1)
    many = Film.of({k: f"class {k}" for k in range(1000)}, 4)
    assert (list(many.pictures), many.columns, many.rows) == (list(range(64)), 8, 8)
    assert 8 * many.tile + 7 * film_room.GAP <= SIDE


@pytest.mark.parametrize(
    ("count", "size", "shown"),
    [(1, (16, 16), (256, 256)), (1, (224, 224), (224, 224)), (1, (700, 500), (512, 366)), (4, (32, 32), (514, 514))],
)
def test_a_frame_has_even_sides_of_at_most_512(count: int, size: tuple[int, int], shown: tuple[int, int]) -> None:
    own = Film.of(dict.fromkeys(range(count)), 1)
    images = torch.stack([noise(k, size[1], size[0]) for k in range(count)])
    own.keep(1, range(count), images)
    (frame,) = own.frames()
    expected = tuple(min(SIDE, side) for side in shown) if count == 1 else (2 * 224 + 2, 2 * 224 + 2)
    assert frame.size == expected
    assert all(side % 2 == 0 for side in frame.size)


def test_only_tiles_of_eight_bits_are_kept_and_a_missing_step_shows_the_one_before() -> None:
    own = Film.of(dict.fromkeys(range(100)), 40)
    own.keep(0, range(90, 100), torch.zeros(10, 3, 8, 8))  # none of the first 64
    own.keep(kept_steps(40)[1] + 10**6, range(4), torch.zeros(4, 3, 8, 8))  # no kept step
    own.keep(0, range(4), None)
    assert own.memory == {}
    with pytest.raises(UserError, match="has no pictures"):
        list(own.frames())
    big = noise(3, 300, 300)
    single = Film.of({5: None}, 2)
    single.keep(0, [5], big[None])
    single.keep(2, [5], 1 - big[None])
    assert all(isinstance(value, bytes) for value in single.memory.values())
    first, second, third = map(np.asarray, single.frames())
    assert np.array_equal(first, second)
    assert np.array_equal(third, 255 - first)


# ---- the files -----------------------------------------------------------------------------------------------------


def test_a_gif_of_few_colours_is_exact_and_every_frame_has_its_time(tmp_path: Path) -> None:
    own = Film.of({0: None}, 3)
    images = [noise(k, 8, 8) for k in range(4)]  # 64 pixels: each has its colour in a palette of 256
    for step, image in enumerate(images):
        own.keep(step, [0], image[None])
    frames, shown = frames_of(moving.write_gif(own, tmp_path / "a.gif"))
    assert shown == durations(4) == [FIRST, TICK, TICK, LAST]
    for frame, image in zip(frames, images, strict=True):
        small = (255 * image).round().permute(1, 2, 0).numpy().astype(int)
        factor = frame.shape[0] // 8
        assert np.array_equal(frame, small.repeat(factor, 0).repeat(factor, 1))
    assert (durations(1), durations(2)) == ([LAST], [FIRST, LAST])


def test_a_gif_of_noise_is_made_smaller_until_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is what compresses least."""
    own = Film.of({0: None}, 5)
    for step in range(6):
        own.keep(step, [0], noise(step, 256, 256)[None])
    whole = moving.write_gif(own, tmp_path / "whole.gif")
    assert frames_of(whole)[0][0].shape == (256, 256, 3)
    monkeypatch.setattr(moving, "BYTES_AT_MOST", 0.65 * whole.stat().st_size)
    path = moving.write_gif(own, tmp_path / "a.gif")
    frames, _ = frames_of(path)
    assert (len(frames), frames[0].shape) == (6, (192, 192, 3))
    assert path.stat().st_size <= moving.BYTES_AT_MOST
    monkeypatch.setattr(moving, "BYTES_AT_MOST", 1)
    assert frames_of(moving.write_gif(own, path))[0][0].shape == (128, 128, 3)  # small enough for any bound in use


def test_the_command_writes_the_film_from_the_start_to_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "run"
    typed = ["generate", TOY, "--class", "anchor", "dragon", "--n", 2, "--recipe", "das", "--batch", 3, "--no-verdicts"]
    typed += ["--set", "views.copies=1"]
    assert run(*typed, "--steps", 40, "--gif", "--out", out) == 0
    folder = RunFolder.open(out)
    frames, shown = frames_of(out / "drawing.gif")
    assert len(frames) == len(shown) == len(kept_steps(40))
    assert sum(shown) == sum(durations(len(frames)))
    pictures = {record["index"]: folder.read_picture(record) for record in folder.pictures}
    start = from_png((out / "film" / "0000-000000.png").read_bytes())
    assert (start - 0.5).abs().mean() < 0.05  # das begins at grey
    last = _tiled([pictures[k] for k in (0, 2, 1, 3)], frames[-1].shape)  # anchors, then dragons
    off = [np.abs(frame - last).mean() for frame in frames]
    assert off[-1] < PALETTE
    assert off[0] > 3 * off[-1]
    assert np.abs(frames[0] - 127.5).mean() < 15
    assert all(frames[0].shape == frame.shape for frame in frames)
    tiles = {path.name: from_png(path.read_bytes()) for path in (out / "film").glob("*.png")}
    assert len(tiles) == 4 * len(frames)
    for index, picture in pictures.items():
        assert torch.equal(tiles[f"{index:04d}-000040.png"], picture)
    assert "film/0000-000000.png" in (out / "files.txt").read_text()
    assert run(*typed, "--steps", 2, "--out", out, "--overwrite") == 0
    assert not (out / "film").exists()
    assert not (out / "drawing.gif").exists()


def _tiled(pictures: list[torch.Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """Two rows of two, enlarged."""
    big = [(255 * p).round().permute(1, 2, 0).numpy().astype(int) for p in pictures]
    factor = (shape[0] - film_room.GAP) // 2 // big[0].shape[0]
    big = [p.repeat(factor, 0).repeat(factor, 1) for p in big]
    found, side = np.full(shape, 255), big[0].shape[0]
    for place, picture in enumerate(big):
        row, column = (k * (side + film_room.GAP) for k in divmod(place, 2))
        found[row : row + side, column : column + side] = picture
    return found


@pytest.mark.parametrize("stop_after", [3, 9, 12])
def test_a_stopped_run_goes_on_to_the_same_film_bit_for_bit(
    stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"n": 4, "recipe": "das", "steps": 8, "batch": 2, "gif": True, "verdicts": False}
    bothways.generate(TOY, "anchor", **settings, out=tmp_path / "whole")
    made: list[int] = []

    def stop(frame: bothways.types.Frame) -> None:
        made.append(frame.step)
        if len(made) == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bothways.generate(TOY, "anchor", **settings, out=tmp_path / "cut", on_frame=stop)
    assert not (tmp_path / "cut" / "drawing.gif").exists()
    bothways.generate(TOY, "anchor", n=4, out=tmp_path / "cut", resume=True)
    whole, cut = ((tmp_path / name / "drawing.gif").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert len(frames_of(tmp_path / "cut" / "drawing.gif")[0]) == 9


def test_a_step_whose_tile_cannot_be_written_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"n": 1, "recipe": "das", "steps": 6, "gif": True, "verdicts": False}
    bothways.generate(TOY, "anchor", **settings, out=tmp_path / "whole")
    write = film_room.replace_file

    def full(path: Path, content: bytes) -> None:
        if path.name == "0000-000004.png":
            raise RunError(f"{path}: no space left on device; earlier work is saved")
        write(path, content)

    monkeypatch.setattr(film_room, "replace_file", full)
    with pytest.raises(RunError, match="no space left"):
        bothways.generate(TOY, "anchor", **settings, out=tmp_path / "cut")
    monkeypatch.undo()
    bothways.generate(TOY, "anchor", out=tmp_path / "cut", resume=True)
    assert (tmp_path / "whole" / "drawing.gif").read_bytes() == (tmp_path / "cut" / "drawing.gif").read_bytes()


def test_more_pictures_of_one_target_lengthen_the_film(tmp_path: Path) -> None:
    settings = {"recipe": "das", "steps": 3, "gif": True, "verdicts": False, "out": tmp_path / "run"}
    bothways.generate(TOY, "anchor", n=1, **settings)
    assert frames_of(tmp_path / "run" / "drawing.gif")[0][0].shape == (256, 256, 3)
    bothways.generate(TOY, "anchor", n=4, resume=True, out=tmp_path / "run")
    frames, _ = frames_of(tmp_path / "run" / "drawing.gif")
    assert (len(frames), frames[0].shape) == (4, (2 * 240 + 2, 2 * 240 + 2, 3))


def test_in_python_the_result_writes_it_and_one_without_says_how(tmp_path: Path) -> None:
    result = bothways.generate(TOY, "anchor", n=1, recipe="das", steps=3, gif=True, verdicts=False)
    path = result.gif(tmp_path / "mine.gif")
    assert len(frames_of(path)[0]) == 4
    assert "\n" not in repr(result)
    assert (result.save(tmp_path / "saved") / "drawing.gif").read_bytes() == path.read_bytes()
    assert (tmp_path / "saved" / "sheet.png").is_file()
    plain = bothways.generate(TOY, "anchor", n=1, recipe="das", steps=1, verdicts=False)
    with pytest.raises(UserError, match="gif=True"):
        plain.gif(tmp_path / "b.gif")
    with pytest.raises(UserError, match="mp4=True"):
        plain.mp4(tmp_path / "b.mp4")


def test_the_film_changes_no_picture_and_cannot_be_added_to_a_run_that_kept_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"n": 2, "recipe": "das", "steps": 3, "verdicts": False}
    plain = bothways.generate(TOY, "anchor", **settings, out=tmp_path / "run")
    assert torch.equal(plain.images, bothways.generate(TOY, "anchor", **settings, gif=True).images)
    said = refused(capsys, "generate", TOY, "--out", tmp_path / "run", "--resume", "--gif")
    assert "share.gif was False" in said


# ---- the video -----------------------------------------------------------------------------------------------------


def test_without_the_extra_a_video_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    said = refused(capsys, "generate", "nowhere.py:build", "--class", "a", "--mp4", "--out", tmp_path / "run")
    assert 'pip install "bothways[video]"' in said
    assert not (tmp_path / "run").exists()


@pytest.fixture
def ffmpeg() -> str:
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        pytest.skip("imageio-ffmpeg is not installed")
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves pipes open
@pytest.mark.usefixtures("ffmpeg")
def test_a_video_shows_the_same_frames_for_the_same_time(tmp_path: Path) -> None:
    import imageio_ffmpeg

    settings = {"n": 1, "recipe": "das", "steps": 5, "mp4": True, "verdicts": False}
    result = bothways.generate(TOY, "anchor", **settings, out=tmp_path / "run")
    read = imageio_ffmpeg.read_frames(str(tmp_path / "run" / "drawing.mp4"))
    facts = next(read)
    frames = [np.frombuffer(frame, np.uint8).reshape(256, 256, 3).astype(int) for frame in read]
    assert (facts["codec"], facts["size"], facts["fps"]) == ("h264", (256, 256), 25.0)
    assert len(frames) == sum(shown * 25 // 1000 for shown in durations(6))
    wanted = (255 * result.images[0]).round().permute(1, 2, 0).numpy().astype(int).repeat(16, 0).repeat(16, 1)
    assert np.abs(frames[-1] - wanted).mean() < PALETTE
    assert np.abs(frames[0] - 127.5).mean() < 15
    assert not (tmp_path / "run" / "drawing.gif").exists()
    assert result.mp4(tmp_path / "mine.mp4").stat().st_size > 1000


def test_an_encoder_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        @staticmethod
        def get_ffmpeg_exe() -> str:
            return "ffmpeg"

        @staticmethod
        def write_frames(*given: object, **settings: object) -> Iterator[None]:
            yield
            raise OSError("[Errno 32] Broken pipe\n\nFFMPEG COMMAND:\nffmpeg -y\n\nUnknown encoder 'libx264'")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Failing)
    own = Film.of({0: None}, 0)
    own.keep(0, [0], torch.zeros(1, 3, 8, 8))
    with pytest.raises(RunError, match=r"Unknown encoder 'libx264'.*type --gif") as said:
        moving.write_mp4(own, tmp_path / "a.mp4")
    assert "\n" not in str(said.value)
    assert not (tmp_path / "a.mp4").exists()
