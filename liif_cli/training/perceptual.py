"""Losses of whole patches for what PSNR does not see: structure, colours over areas, and artefacts.

All take RGB patches (B, 3, N, N) in [0, 1], zero beyond a patch's side, and `share` (B, N, N), the weights of the pixels in the
mean, which sum to 1 and are zero beyond the side.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.training.discriminator import weighted

C1, C2 = 0.01**2, 0.03**2  # of SSIM
SCALES = 3  # at which structure is compared, each half the one before
AREA = 8  # pixels per side of the areas whose colours must agree
WINDOW = 7  # pixels per side of the window of local variances


def blur(image: Tensor, sigma: float = 1.5) -> Tensor:
    """A Gaussian blur of each channel, zero beyond the border."""
    radius = round(3.5 * sigma)
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma).square())
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    image = F.conv2d(image, kernel, padding=(0, radius), groups=image.shape[1])
    return F.conv2d(image, kernel.mT, padding=(radius, 0), groups=image.shape[1])


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of each pixel, (B, C, N, N) (Wang et al., IEEE TIP 2004), with a Gaussian window of 1.5 pixels."""
    mean_a, mean_b = blur(a), blur(b)
    covariance = blur(a * b) - mean_a * mean_b
    variances = blur(a * a) - mean_a.square() + blur(b * b) - mean_b.square()
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def structure(rendered: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """1 - SSIM, the mean over a few scales."""
    losses = []
    for _ in range(SCALES):
        losses.append(weighted(1 - ssim(rendered, real), share))
        rendered, real = F.avg_pool2d(rendered, 2), F.avg_pool2d(real, 2)
        share = 4 * F.avg_pool2d(share, 2)
    return torch.stack(losses).mean()


def consistency(rendered: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """The mean absolute difference of the mean colours of small areas, so that no colour shifts, whatever the texture."""
    difference = F.avg_pool2d(rendered - real, AREA).abs()
    return weighted(difference, AREA**2 * F.avg_pool2d(share, AREA))


def artefacts(rendered: Tensor, average: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """The absolute difference where it varies locally and exceeds that of the averaged model's patches.

    Liang et al., "Details or Artifacts", CVPR 2022, equations 4 to 8. average: what the moving average of the model renders.
    """
    with torch.no_grad():
        residual, other = ((real - each).abs().sum(1, keepdim=True) for each in (rendered, average))
        patch = residual.var((1, 2, 3), keepdim=True).pow(0.2)
        mean = F.avg_pool2d(residual, WINDOW, 1, WINDOW // 2)
        local = (F.avg_pool2d(residual.square(), WINDOW, 1, WINDOW // 2) - mean.square()).clamp(min=0)
        weight = torch.where(residual < other, 0.0, patch * local)
    return weighted(weight * (rendered - real).abs(), share)
