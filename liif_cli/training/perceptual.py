"""Losses of whole patches that measure what PSNR does not: structure, mean colours of areas, and artefacts.

All take RGB patches (B, 3, N, N) in [0, 1], zero beyond a patch's side, and `share` (B, N, N), the weights of the pixels in the
mean, which sum to 1 and are zero beyond the side.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from liif_cli.training.discriminator import weighted

C1, C2 = 0.01**2, 0.03**2  # the constants of SSIM
SCALES = 3  # the number of scales at which structure is compared, each half the previous one
AREA = 8  # pixels per side of the areas whose mean colours are compared
WINDOW = 7  # pixels per side of the window of local variances


def blur(image: Tensor, sigma: float = 1.5) -> Tensor:
    """Blur each channel with a Gaussian of `sigma` pixels; zero beyond the border."""
    radius = round(3.5 * sigma)
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma).square())
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, -1)
    image = F.conv2d(image, kernel, padding=(0, radius), groups=image.shape[1])
    return F.conv2d(image, kernel.mT, padding=(radius, 0), groups=image.shape[1])


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """The SSIM of each pixel, (B, C, N, N), with a Gaussian window of 1.5 pixels (Wang et al., IEEE TIP 2004)."""
    mean_a, mean_b = blur(a), blur(b)
    covariance = blur(a * b) - mean_a * mean_b
    variances = blur(a * a) - mean_a.square() + blur(b * b) - mean_b.square()
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def structure(rendered: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """The mean of 1 - SSIM over `SCALES` scales, a scalar."""
    losses = []
    for _ in range(SCALES):
        losses.append(weighted(1 - ssim(rendered, real), share))
        rendered, real = F.avg_pool2d(rendered, 2), F.avg_pool2d(real, 2)
        share = 4 * F.avg_pool2d(share, 2)
    return torch.stack(losses).mean()


def consistency(rendered: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """The mean absolute difference of the mean colours of small areas, a scalar: it penalises colour shifts, not texture."""
    difference = F.avg_pool2d(rendered - real, AREA).abs()
    return weighted(difference, AREA**2 * F.avg_pool2d(share, AREA))


def artefacts(rendered: Tensor, average: Tensor, real: Tensor, share: Tensor) -> Tensor:
    """The mean absolute difference, weighted by its local variance, of pixels at which it exceeds that of `average`; a scalar.

    Liang et al., "Details or Artifacts", CVPR 2022, equations 4 to 8. average: the patches rendered by the model's moving
    average.
    """
    with torch.no_grad():
        residual, other = ((real - each).abs().sum(1, keepdim=True) for each in (rendered, average))
        patch = residual.var((1, 2, 3), keepdim=True).pow(0.2)
        mean = F.avg_pool2d(residual, WINDOW, 1, WINDOW // 2)
        local = (F.avg_pool2d(residual.square(), WINDOW, 1, WINDOW // 2) - mean.square()).clamp(min=0)
        weight = torch.where(residual < other, 0.0, patch * local)
    return weighted(weight * (rendered - real).abs(), share)
