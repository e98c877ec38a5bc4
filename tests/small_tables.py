"""A small table of one's own, for the tests of its report, of its model and of the command line."""

import csv
import random
from pathlib import Path

from PIL import Image

GOOD, BAD = ("lovely", "superb", "decent"), ("awful", "terrible", "dull")


def write_table(folder: Path, rows: int = 60, classes: bool = False, seed: int = 0) -> Path:
    """Writes pictures, texts and a target into a new folder: bright pictures and good words go with
    many stars (or with the class "high"), each with noise of its own. Returns the table's file."""
    draw = random.Random(seed)
    (folder / "photos").mkdir(parents=True)
    path = folder / "shop.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["photo", "review", "stars"])
        for number in range(rows):
            stars = draw.uniform(1, 5)
            light = int(min(255, max(0, 50 * stars + draw.gauss(0, 40))))
            name = f"{number:03}.png"
            Image.new("RGB", (16, 12), (light, light, 90)).save(folder / "photos" / name)
            words = [draw.choice(GOOD if draw.gauss(stars, 1) > 3 else BAD) for _ in range(3)]
            text = f"The room was {words[0]}, and the food {words[1]} and {words[2]}."
            wanted = ("high" if stars > 3 else "low") if classes else f"{stars:.2f}"
            writer.writerow([name, text, wanted])
    return path
