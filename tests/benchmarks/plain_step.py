"""A plain implementation of the paper's training step: the oracle of the tests and the reference of the benchmark.

It unfolds the features, looks up the four codes of each query with nearest sampling, runs the MLP on each, and blends the
results by the areas of the opposite rectangles (paper, section 3).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.coords import pixel_centres
from liif_cli.models.model import SRModel
from liif_cli.training.pairs import Batch


def plain_query(model: SRModel, image: Tensor, coord: Tensor, cell: Tensor) -> Tensor:
    """Normalised colours (B, Q, 3) of normalised images at coords (B, Q, 2) in [-1, 1], (y, x), with cells in the same unit."""
    decoder = model.decoder
    features = model.encoder(image)
    batch, _, height, width = features.shape
    if decoder.kernel == 3:
        features = F.unfold(features, 3, padding=1).view(batch, -1, height, width)
    size = torch.tensor([height, width], device=image.device, dtype=coord.dtype)
    rows, columns = (torch.from_numpy(pixel_centres(n)).to(coord) for n in (height, width))
    centres = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
    shifts = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if decoder.local_ensemble else [(0, 0)]
    colours, areas = [], []
    for shift in shifts:
        moved = coord + torch.tensor(shift, device=image.device) / size + (1e-6 if decoder.local_ensemble else 0)
        moved = moved.clamp(-1 + 1e-6, 1 - 1e-6)
        relative = (coord - _nearest(centres, moved)) * size
        inputs = [_nearest(features, moved), relative.to(features.dtype)]
        inputs += [(cell * size).to(features.dtype)] if decoder.cell_decoding else []
        colours.append(decoder.imnet(torch.cat(inputs, -1)))
        areas.append(relative.prod(-1).abs() + 1e-9)
    if len(shifts) == 4:
        areas = areas[::-1]  # the diagonally opposite rectangle
    total = torch.stack(areas).sum(0)
    return sum(c * (a / total).unsqueeze(-1) for c, a in zip(colours, areas, strict=True))


def _nearest(maps: Tensor, coord: Tensor) -> Tensor:
    """The nearest values (B, Q, C) of maps (B, C, h, w) at coords (B, Q, 2), (y, x)."""
    grid = coord.flip(-1).unsqueeze(1).to(maps.dtype)
    return F.grid_sample(maps, grid, mode="nearest", align_corners=False)[:, :, 0].transpose(1, 2)


def plain_loss(model: SRModel, batch: Batch, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """The L1 loss in the normalised space, and the mean squared error in RGB. Coords are in `dtype` (the authors: float32)."""
    size = batch.lr.shape[-1]
    coord = ((batch.position + 0.5) * 2 / size - 1).to(dtype)
    image = (batch.lr.float() / 255 - 0.5) / 0.5
    wanted = (batch.rgb.float() / 255 - 0.5) / 0.5
    predicted = plain_query(model, image, coord, (batch.cell * 2 / size).to(dtype)).float()
    return F.l1_loss(predicted, wanted), ((predicted - wanted) / 2).square().mean()
