"""The decoder where its answer is known: with an MLP that returns the latent code, LIIF is interpolation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from liif_cli.coords import Axis
from liif_cli.models.decoders.liif import LIIF

CODES = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def identity(ensemble: bool) -> LIIF:
    """A decoder whose colour is the code itself, wherever the query lies in it: codes are positive, so ReLU keeps them."""
    decoder = LIIF(3, hidden=(3,), local_ensemble=ensemble, feature_unfolding=False, cell_decoding=False)
    with torch.no_grad():
        for layer in decoder.imnet.linears:
            layer.weight.copy_(torch.eye(*layer.weight.shape))
            layer.bias.zero_()
    return decoder


def both(decoder: LIIF, rows: Axis, columns: Axis) -> list[torch.Tensor]:
    """The grid by `render` and by `query`, (2, 3, h, w) each."""
    field = decoder.prepare(CODES)
    y, x = (torch.from_numpy(axis.positions()) for axis in (rows, columns))
    position = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).reshape(1, -1, 2).expand(2, -1, 2)
    with torch.no_grad():
        cell = torch.tensor([rows.cell, columns.cell], dtype=torch.float64).expand_as(position)
        queried = decoder.query(field, position, cell).reshape(2, len(rows), len(columns), 3)
        return [out.permute(0, 3, 1, 2) for out in (decoder.render(field, rows, columns), queried)]


@pytest.mark.parametrize("shape", [(6, 8), (12, 16), (13, 21), (18, 24), (3, 4), (5, 40)])
def test_the_ensemble_blends_as_bilinear_interpolation(shape: tuple[int, int]) -> None:
    expected = F.interpolate(CODES, shape, mode="bilinear", align_corners=False)
    for ours in both(identity(True), Axis.whole(6, shape[0]), Axis.whole(8, shape[1])):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_without_the_ensemble_it_is_the_nearest_code_and_the_even_one_of_two() -> None:
    rows, columns = Axis.whole(6, 3), Axis.whole(8, 4)  # positions 0.5, 2.5, 4.5 and 6.5: each between two codes
    assert rows.positions().tolist() == [0.5, 2.5, 4.5]
    for ours in both(identity(False), rows, columns):
        torch.testing.assert_close(ours, CODES[:, :, [0, 2, 4]][..., [0, 2, 4, 6]])
    for ours in both(identity(False), Axis.whole(6, 13), Axis.whole(8, 11)):
        index = [np.rint(axis.positions()).astype(int) for axis in (Axis.whole(6, 13), Axis.whole(8, 11))]
        torch.testing.assert_close(ours, CODES[:, :, index[0].clip(0, 5)][..., index[1].clip(0, 7)])


def test_a_tile_uses_the_images_size_not_its_own() -> None:
    """The field of the right half of the image gives the right half of the output."""
    decoder = identity(True)
    rows, columns = Axis.whole(6, 13), Axis.whole(8, 40)
    whole = decoder.render(decoder.prepare(CODES), rows, columns)
    tile = decoder.prepare(CODES[..., 3:], origin=(0, 3), size=(6, 8))
    torch.testing.assert_close(decoder.render(tile, rows, columns.part(20, 40)), whole[:, :, 20:])


@pytest.mark.parametrize("hidden", [(7,), (8, 8), (16, 3, 9), (5,) * 6])
@pytest.mark.parametrize("parts", [(True, True, True), (False, True, True), (True, False, True), (True, True, False)])
def test_any_depth_width_and_part(hidden: tuple[int, ...], parts: tuple[bool, bool, bool]) -> None:
    """`render` and `query` agree, and batches are what their images are alone."""
    torch.manual_seed(1)
    decoder = LIIF(3, hidden, *parts)
    rendered, queried = both(decoder, Axis.whole(6, 14), Axis.whole(8, 19).part(2, 18))
    torch.testing.assert_close(rendered, queried, atol=1e-5, rtol=0)
    single = decoder.render(decoder.prepare(CODES[1:]), Axis.whole(6, 14), Axis.whole(8, 19).part(2, 18))
    torch.testing.assert_close(single.permute(0, 3, 1, 2), rendered[1:].detach(), atol=1e-6, rtol=0)
