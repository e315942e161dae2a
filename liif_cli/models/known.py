"""Published models of other projects: the address, hash, licence and expected scores of each.

None of them is shipped with liif. `pull` fetches one by its name; `convert` recognises a file by its hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

DIV2K_NOTICE = "trained on DIV2K, which its authors offer for academic research only"
EDSR, RDN = 1_567_299, 22_320_835  # parameters of EDSR-baseline-LIIF and of RDN-LIIF


@dataclass(frozen=True)
class Known:
    """A published model.

    source: an https address, or hf://owner/repo@commit/path. sha256: of the file there, in hex, or only its beginning if no
    more is published. licence: an SPDX identifier if there is one. notice: what users must know in addition to the licence.
    scores: the published PSNR in dB, by protocol and set ("mmediting Set5"), then by scale.
    """

    name: str
    source: str
    sha256: str
    licence: str
    origin: str
    parameters: int
    notice: str = ""
    bytes: int | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def terms(self) -> str:
        """The licence terms to show before the download."""
        parts = [self.licence, "no commercial use" if is_non_commercial(self.licence) else "", self.notice]
        return "; ".join(part for part in parts if part)

    def matches(self, sha256: str) -> bool:
        """Whether a file with this hash is this model."""
        return sha256.startswith(self.sha256)


def is_non_commercial(licence: str) -> bool:
    """Whether a licence, by its SPDX identifier or its name, forbids commercial use."""
    words = licence.lower().replace("non-commercial", "noncommercial").replace("-", " ").split()
    return "nc" in words or "noncommercial" in words


def _scales(*values: float, scales: tuple[str, ...] = ("2", "3", "4", "6", "18", "30")) -> dict[str, float]:
    return dict(zip(scales, values, strict=True))


_DIV2K_SCALES = ("2", "3", "4", "6", "12", "18", "24", "30")
_MMEDITING = "https://download.openmmlab.com/mmediting/restorers/liif/"

KNOWN = (
    Known(
        name="mmediting-edsr-liif",
        source=f"{_MMEDITING}liif_edsr_norm_c64b16_g1_1000k_div2k_20210715-ab7ce3fc.pth",
        sha256="ab7ce3fc",
        licence="Apache-2.0",
        origin="MMEditing",
        parameters=EDSR,
        notice=DIV2K_NOTICE,
        scores={
            "mmediting Set5": _scales(35.7131, 32.3805, 30.2748, 27.1187, 20.8516, 18.8467),
            "mmediting Set14": _scales(31.5579, 28.4605, 26.8415, 24.7461, 20.0096, 18.1321),
        },
    ),
    Known(
        name="mmediting-rdn-liif",
        source=f"{_MMEDITING}liif_rdn_norm_c64b16_g1_1000k_div2k_20210717-22d6fdc8.pth",
        sha256="22d6fdc8",
        licence="Apache-2.0",
        origin="MMEditing",
        parameters=RDN,
        notice=DIV2K_NOTICE,
        scores={
            "mmediting Set5": _scales(35.7874, 32.4992, 30.3835, 27.1914, 20.8913, 18.9354),
            "mmediting Set14": _scales(31.6866, 28.4905, 26.8734, 24.7824, 20.1077, 18.1448),
        },
    ),
    Known(
        name="authors-edsr-baseline-liif",
        source="https://www.dropbox.com/s/6f402wcn4v83w2v/edsr-baseline-liif.pth?dl=1",
        sha256="1cf77e16f33ee17bd04049f497eaea1e06f25585dbb1919e4c7cd1d9d4d23d57",
        licence="BSD-3-Clause",
        origin="the authors of LIIF",
        parameters=EDSR,
        notice=DIV2K_NOTICE,
        bytes=18_890_445,
        scores={"div2k DIV2K": _scales(34.67, 30.96, 29.00, 26.75, 23.71, 22.17, 21.18, 20.48, scales=_DIV2K_SCALES)},
    ),
    Known(
        name="authors-rdn-liif",
        source="https://www.dropbox.com/s/mzha6ll9kb9bwy0/rdn-liif.pth?dl=1",
        sha256="7bf835bc969b85ead12ef3bd8e4bca7349777ae1fdbea6021f1b62608f4a323a",
        licence="BSD-3-Clause",
        origin="the authors of LIIF",
        parameters=RDN,
        notice=DIV2K_NOTICE,
        bytes=268_184_311,
        scores={
            "div2k DIV2K": _scales(34.99, 31.26, 29.27, 26.99, 23.89, 22.34, 21.31, 20.59, scales=_DIV2K_SCALES),
            "benchmark Set5": _scales(38.17, 34.68, 32.50, 29.15, 27.14, scales=("2", "3", "4", "6", "8")),
            "benchmark Set14": _scales(33.97, 30.53, 28.80, 26.64, 25.15, scales=("2", "3", "4", "6", "8")),
        },
    ),
)


def by_name(name: str) -> Known | None:
    """The known model with this name, None if there is none."""
    return next((known for known in KNOWN if known.name == name), None)


def by_hash(sha256: str) -> Known | None:
    """The known model whose published file has this hash, None if there is none."""
    return next((known for known in KNOWN if known.matches(sha256)), None)
