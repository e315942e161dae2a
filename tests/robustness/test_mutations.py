"""300 mutated images: each is made, or refused by an error of ours."""

import pytest
from robustness.__main__ import judged
from robustness.mutate import mutated, seeds

FILES = seeds()


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_mutated_images_are_made_or_refused(first: int) -> None:
    verdicts = [judged(mutated(seed, FILES)[1]) for seed in range(first, first + 50)]
    assert all(verdict.startswith(("made", "refused")) for verdict in verdicts)
    assert any(verdict.startswith("made") for verdict in verdicts)
    assert any(verdict.startswith("refused") for verdict in verdicts)
