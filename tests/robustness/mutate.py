"""Blind mutations, which know nothing of a format, and how a number stands for a mutated file."""

import random
import struct
from collections.abc import Callable, Sequence

NUMBERS = (
    0,
    1,
    2,
    8,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    0xFFFFFFFFFFFFFFFF,
)
"""Of the kind that parsers trip over."""

Mutator = Callable[[bytearray, random.Random], None]


def bits(data: bytearray, dice: random.Random) -> None:
    """Turn a few bits."""
    for _ in range(dice.choice((1, 2, 8, 32))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def length(data: bytearray, dice: random.Random) -> None:
    """Cut the end off, or put zeros or copies behind it."""
    at = dice.randrange(len(data))
    if dice.random() < 0.5:
        del data[at:]
    else:
        data += data[at:] if dice.random() < 0.5 else bytes(at)


def splice(data: bytearray, dice: random.Random) -> None:
    """Copy one piece over another place, of any length."""
    start, at, size = dice.randrange(len(data)), dice.randrange(len(data)), dice.randrange(1, 64)
    data[at : at + dice.randrange(64)] = data[start : start + size]


def number(data: bytearray, dice: random.Random) -> None:
    """Write one of `NUMBERS` anywhere, in any width."""
    form = dice.choice((">I", "<I", ">H", "<H", "B", "<Q", ">Q"))
    size = struct.calcsize(form)
    if len(data) > size:
        value = dice.choice(NUMBERS) & (1 << 8 * size) - 1
        struct.pack_into(form, data, dice.randrange(len(data) - size), value)


BLIND: tuple[Mutator, ...] = (bits, length, splice, number)


def apply(
    seed: int, files: Sequence[tuple[str, bytes]], mutators: Sequence[Mutator], shares: tuple[int, ...] = (1, 1, 2, 4)
) -> tuple[str, bytes]:
    """(what was done, file) that the number `seed` stands for. shares: how many mutations a file gets, by chance."""
    dice = random.Random(seed)
    name, data = dice.choice(files)
    changed = bytearray(data)
    done = [dice.choice(mutators) for _ in range(dice.choice(shares))]
    for mutate in done:
        if changed:
            mutate(changed, dice)
    return f"{name}: {', '.join(mutate.__name__ for mutate in done)}", bytes(changed)
