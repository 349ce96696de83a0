"""The demo's work: a picture of the Mandelbrot set in 24 tiles, in plain Python so that it takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS, ROWS = 6, 4
TILES = COLUMNS * ROWS
TILE_PIXELS = 160
_ITERATIONS_MAX = 400
_LEFT, _TOP, _WIDTH = -2.25, -1.0, 3.0


def draw_tile(number: int, folder: Path) -> Path:
    """Draws tile ``number`` (from 0, row by row) into ``folder`` and returns its file."""
    step = _WIDTH / (COLUMNS * TILE_PIXELS)
    left = _LEFT + number % COLUMNS * TILE_PIXELS * step
    top = _TOP + number // COLUMNS * TILE_PIXELS * step
    image = Image.new("RGB", (TILE_PIXELS, TILE_PIXELS))
    image.putdata(
        [_colour(complex(left + x * step, top + y * step)) for y in range(TILE_PIXELS) for x in range(TILE_PIXELS)]
    )
    path = folder / f"tile-{number:02d}.png"
    draft = path.with_suffix(".draft")
    image.save(draft, format="PNG")
    draft.replace(path)
    return path


def _colour(c: complex) -> tuple[int, int, int]:
    z = 0j
    for iteration in range(_ITERATIONS_MAX):
        z = z * z + c
        if z.real * z.real + z.imag * z.imag > 4.0:
            shade = iteration / _ITERATIONS_MAX
            return int(255 * shade**0.35), int(255 * shade**0.6), int(90 + 165 * shade**0.25)
    return 12, 12, 28


def join_tiles(folder: Path, picture: Path) -> int:
    """Puts the tiles that are there together; returns how many there were."""
    image = Image.new("RGB", (COLUMNS * TILE_PIXELS, ROWS * TILE_PIXELS), (60, 60, 60))
    found = 0
    for number in range(TILES):
        path = folder / f"tile-{number:02d}.png"
        if path.exists():
            with Image.open(path) as tile:
                image.paste(tile, (number % COLUMNS * TILE_PIXELS, number // COLUMNS * TILE_PIXELS))
            found += 1
    image.save(picture)
    return found
