"""Smooth fills against a dense solve, closed forms and the maximum principle."""

import pytest
import torch

from bothways.numerics.draws import generator
from bothways.numerics.fill import Smoothness, harmonic_fill, laplacian, tension_fill
from bothways.types import UserError

H, W = 9, 12


def photos(n=4, dtype=torch.float64):
    return torch.rand(n, 3, H, W, generator=generator(0), dtype=dtype)


def masks():
    """Inside; across a corner; nothing; two holes of which one touches an edge."""
    mask = torch.zeros(4, 1, H, W)
    mask[0, :, 2:6, 3:7] = 1
    mask[1, :, :4, 8:] = 1
    mask[3, :, 2:4, 2:4] = mask[3, :, 6:, 5:9] = 1
    return mask


def dense_laplacian():
    """Neighbour by neighbour."""
    line = torch.zeros(H * W, H * W, dtype=torch.float64)
    for y in range(H):
        for x in range(W):
            for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= b < H and 0 <= a < W:
                    line[y * W + x, y * W + x] += 1
                    line[y * W + x, b * W + a] -= 1
    return line


def dense_fill(energy, photo, mask):
    result = photo.clone().flatten(2)
    for row, one in enumerate(mask.expand(len(photo), 1, H, W).flatten(1).bool()):
        known = result[row][:, ~one].T
        result[row][:, one] = torch.linalg.solve(energy[one][:, one], -energy[one][:, ~one] @ known).T
    return result.view_as(photo)


def far(a, b):
    return (a - b).abs().max().item()


def test_the_laplacian_is_that_of_the_grid():
    assert far(torch.from_numpy(laplacian(H, W).toarray()), dense_laplacian()) == 0


def test_both_fills_are_the_dense_solves_for_every_mask_of_a_batch():
    line = dense_laplacian()
    assert far(harmonic_fill(photos(), masks()), dense_fill(line, photos(), masks())) < 1e-14
    tense = 0.25 + 0.5 * photos()  # so that nothing overshoots [0, 1]
    for tension in (0.0, 0.3, 5.0):
        expected = dense_fill(line @ line + tension * line, tense, masks()).clamp(0, 1)
        assert far(tension_fill(tense, masks(), tension), expected) < 1e-12


def test_what_lies_in_the_hole_is_not_read_and_the_rest_comes_back_bit_for_bit():
    photo, mask = photos(dtype=torch.float32), masks()
    spoilt = photo.masked_fill(mask.bool(), torch.nan)
    for fill in (harmonic_fill, tension_fill):
        filled = fill(spoilt, mask)
        assert filled.dtype == torch.float32
        assert torch.equal(filled, fill(photo, mask))
        kept = ~mask.bool().expand_as(photo)
        assert torch.equal(filled[kept], photo[kept])
        assert torch.equal(filled[2], photo[2])


@pytest.mark.parametrize("fill", [harmonic_fill, tension_fill])
def test_a_linear_ramp_is_continued(fill):
    down, along = torch.meshgrid(torch.arange(H).double(), torch.arange(W).double(), indexing="ij")
    ramp = torch.stack([0.1 + 0.05 * down, 0.9 - 0.06 * along, 0.2 + 0.02 * down + 0.03 * along])[None]
    mask = torch.zeros(1, 1, H, W)
    mask[..., 2:7, 2:9] = 1
    assert far(fill(ramp * (1 - mask), mask), ramp) < 1e-12


def test_the_harmonic_fill_keeps_the_maximum_principle_and_the_mean_of_neighbours():
    photo, mask = photos(1), masks()[:1]
    filled = harmonic_fill(photo, mask)
    ring = filled[0, :, 1:7, 2:8].flatten(1)
    inside = filled[0, :, 2:6, 3:7].flatten(1)
    assert bool((inside.amax(1) <= ring.amax(1)).all())
    assert bool((inside.amin(1) >= ring.amin(1)).all())
    neighbours = filled[..., 1:5, 3:7] + filled[..., 3:7, 3:7] + filled[..., 2:6, 2:6] + filled[..., 2:6, 4:8]
    assert far(neighbours / 4, filled[..., 2:6, 3:7]) < 1e-14


def test_edges_of_the_picture_reflect():
    """A strip that touches the edge is filled as the middle of the picture and its mirror image."""
    photo, mask = photos(1), masks()[1:2]
    mirrored, holes = (torch.cat([v.flip(2), v], 2) for v in (photo, mask))
    mirrored, holes = (torch.cat([v, v.flip(3)], 3) for v in (mirrored, holes))
    whole = harmonic_fill(mirrored, holes)
    assert far(whole[:, :, H:, :W], harmonic_fill(photo, mask)) < 1e-13


def test_one_mask_serves_every_picture():
    together = harmonic_fill(photos(), masks()[:1])
    assert far(together, harmonic_fill(photos(), masks()[:1].expand(4, 1, H, W))) == 0
    assert far(together[2:3], harmonic_fill(photos()[2:3], masks()[:1])) < 1e-15


def test_smoothed_is_the_inverse_of_the_energy_in_the_hole_and_nothing_outside():
    line, mask, direction = dense_laplacian(), masks(), photos() - 0.5
    energy = line @ line + 0.3 * line
    found = Smoothness(mask, tension=0.3).smoothed(direction)
    assert not bool((found * (1 - mask)).any())
    for row, one in enumerate(mask.flatten(1).bool()):
        back = energy[one][:, one] @ found[row].flatten(1)[:, one].T
        assert far(back.T, direction[row].flatten(1)[:, one]) < 1e-11 if one.any() else True


def bad_masks():
    mask = masks()
    return {
        "covers the whole picture": torch.cat([mask[:3], torch.ones(1, 1, H, W)]),
        r"of 0 \(keep\) and 1 \(draw\)": mask * 0.5,
        r"give \(1 or B,1,H,W\)": mask.expand(4, 3, H, W),
        r"give \(1 or 4,1,9,12\)": mask[:2],
        "for a photo": mask[..., :-1],
    }


@pytest.mark.parametrize("said", bad_masks())
def test_a_mask_that_cannot_be_is_refused_in_one_line(said):
    with pytest.raises(UserError, match=said) as caught:
        harmonic_fill(photos(), bad_masks()[said])
    assert "\n" not in str(caught.value)


def test_a_negative_tension_is_refused():
    with pytest.raises(UserError, match="tension=-1"):
        tension_fill(photos(), masks(), -1)
