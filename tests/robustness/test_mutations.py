"""300 mutated images: each is made, or refused by an error of ours."""

import io
import resource
import struct

import pytest
from PIL import Image
from robustness.images import judged, mutated, seeds

from liif_cli.images import read

FILES = seeds()


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_mutated_images_are_made_or_refused(first: int) -> None:
    verdicts = [judged(mutated(seed, FILES)[1]) for seed in range(first, first + 50)]
    assert all(verdict.startswith(("made", "refused")) for verdict in verdicts)
    assert any(verdict.startswith("made") for verdict in verdicts)
    assert any(verdict.startswith("refused") for verdict in verdicts)


def test_a_large_palette_image_is_probed_without_its_pixels() -> None:
    """A BMP whose header claims billions of pixels took 4 GiB in its probe."""
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "BMP")
    data = bytearray(file.getvalue())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read.probe(bytes(data)).width == 60_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
