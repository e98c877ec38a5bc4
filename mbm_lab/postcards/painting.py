"""Paints cards: objects, weather, faces, pictures and clips."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from mbm_lab.postcards.cards import CLIP_FRAMES, CLIP_STEP, COLOURS, Card, clip_direction

CLIP_SIZE = 64

OVERSAMPLE = 4
INK = (38, 36, 48)
Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Pen:
    """Draws on a square part of the canvas in its own units: (0, 0) top left to (1, 1) bottom
    right.
    """

    draw: ImageDraw.ImageDraw
    left: float
    top: float
    size: float

    def at(self, x: float, y: float) -> Point:
        """From the pen's units to whole pixels of the canvas."""
        return round(self.left + x * self.size), round(self.top + y * self.size)

    def line_width(self, width: float) -> int:
        """From the pen's units to whole pixels, at least one."""
        return max(1, round(width * self.size))

    def oval(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour | None, width: float = 0.045
    ) -> None:
        """An ellipse with an outline, from its left top to its right bottom."""
        self.draw.ellipse(
            [self.at(x0, y0), self.at(x1, y1)], fill=fill, outline=INK, width=self.line_width(width)
        )

    def line(self, points: Iterable[Point], fill: Colour = INK, width: float = 0.055) -> None:
        """A line from point to point."""
        self.draw.line(
            [self.at(*point) for point in points],
            fill=fill,
            width=self.line_width(width),
            joint="curve",
        )

    def shape(self, points: Iterable[Point], fill: Colour, width: float = 0.045) -> None:
        """A polygon with an outline."""
        corners = [self.at(*point) for point in points]
        self.draw.polygon(corners, fill=fill)
        self.draw.line(
            [*corners, corners[0], corners[1]],
            fill=INK,
            width=self.line_width(width),
            joint="curve",
        )

    def box(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, width: float = 0.045
    ) -> None:
        """A rectangle with an outline, from its left top to its right bottom."""
        self.draw.rectangle(
            [self.at(x0, y0), self.at(x1, y1)], fill=fill, outline=INK, width=self.line_width(width)
        )

    def arc(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        start: float,
        end: float,
        fill: Colour = INK,
        width: float = 0.055,
    ) -> None:
        """A part of an ellipse's outline, from `start` to `end`, in degrees, clockwise from the
        right."""
        self.draw.arc(
            [self.at(x0, y0), self.at(x1, y1)], start, end, fill=fill, width=self.line_width(width)
        )


def turned(points: Iterable[Point], degrees: float) -> list[Point]:
    """Points turned about (0.5, 0.5)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (0.5 + c * (x - 0.5) - s * (y - 0.5), 0.5 + s * (x - 0.5) + c * (y - 0.5))
        for x, y in points
    ]


def curve(start: Point, control: Point, end: Point) -> list[Point]:
    """17 points of a quadratic Bézier curve."""
    out = []
    for i in range(17):
        t = i / 16
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        out.append(
            (a * start[0] + b * control[0] + c * end[0], a * start[1] + b * control[1] + c * end[1])
        )
    return out


def paint_eyeglasses(pen: Pen) -> None:
    """A pair of glasses to look through."""
    for x in (0.02, 0.56):
        pen.oval(x, 0.34, x + 0.42, 0.76, (214, 240, 250), 0.075)
    pen.line([(0.43, 0.5), (0.57, 0.5)], width=0.075)
    pen.line([(0.05, 0.46), (0.0, 0.3)], width=0.06)
    pen.line([(0.95, 0.46), (1.0, 0.3)], width=0.06)


def paint_tumblers(pen: Pen) -> None:
    """Two glasses to drink from."""
    for x in (0.02, 0.53):
        pen.shape(
            [(x, 0.16), (x + 0.44, 0.16), (x + 0.37, 0.94), (x + 0.07, 0.94)], (232, 246, 252)
        )
        pen.shape(
            [(x + 0.03, 0.46), (x + 0.41, 0.46), (x + 0.36, 0.91), (x + 0.08, 0.91)],
            (70, 170, 225),
            0.02,
        )


def paint_bat_animal(pen: Pen) -> None:
    """A bat, the animal, its wings spread."""
    wings = [
        (0.5, 0.42),
        (0.36, 0.3),
        (0.2, 0.2),
        (0.0, 0.28),
        (0.04, 0.66),
        (0.16, 0.56),
        (0.24, 0.7),
        (0.36, 0.62),
        (0.5, 0.82),
    ]
    pen.shape(wings + [(1 - x, y) for x, y in wings[-2::-1]], (92, 78, 100))
    pen.shape(
        [(0.38, 0.34), (0.4, 0.14), (0.48, 0.26), (0.52, 0.26), (0.6, 0.14), (0.62, 0.34)],
        (92, 78, 100),
    )
    pen.oval(0.37, 0.26, 0.63, 0.54, (112, 96, 120))
    for x in (0.42, 0.52):
        pen.oval(x, 0.34, x + 0.06, 0.4, (255, 235, 120), 0.0)
    pen.shape([(0.44, 0.47), (0.48, 0.47), (0.46, 0.56)], (255, 255, 255), 0.01)
    pen.shape([(0.52, 0.47), (0.56, 0.47), (0.54, 0.56)], (255, 255, 255), 0.01)


def paint_bat_sport(pen: Pen) -> None:
    """A bat to hit a ball with, and the ball."""
    wood = [
        (0.46, 0.98),
        (0.44, 0.66),
        (0.38, 0.3),
        (0.4, 0.06),
        (0.5, 0.0),
        (0.6, 0.06),
        (0.62, 0.3),
        (0.56, 0.66),
        (0.54, 0.98),
    ]
    pen.shape(turned(wood, 42), (222, 170, 104))
    pen.line(turned([(0.5, 0.72), (0.5, 0.97)], 42), (120, 50, 40), 0.1)
    pen.oval(0.62, 0.62, 0.94, 0.94, (252, 252, 250))
    pen.arc(0.42, 0.62, 0.74, 0.94, -50, 50, (205, 50, 50), 0.035)
    pen.arc(0.82, 0.62, 1.14, 0.94, 130, 230, (205, 50, 50), 0.035)


def paint_mouse_animal(pen: Pen) -> None:
    """A mouse with a tail."""
    pen.line(curve((0.14, 0.82), (-0.12, 0.62), (0.08, 0.36)), (214, 150, 160), 0.06)
    pen.oval(0.08, 0.42, 0.76, 0.94, (168, 164, 170))
    pen.shape([(0.6, 0.5), (0.99, 0.76), (0.62, 0.9)], (168, 164, 170))
    pen.draw.ellipse([pen.at(0.5, 0.5), pen.at(0.78, 0.88)], fill=(168, 164, 170))
    pen.oval(0.42, 0.2, 0.74, 0.54, (236, 170, 184))
    pen.oval(0.72, 0.62, 0.8, 0.7, INK, 0.0)
    pen.oval(0.93, 0.7, 1.02, 0.8, (232, 110, 130), 0.0)


def paint_mouse_computer(pen: Pen) -> None:
    """The mouse of a computer."""
    pen.line(curve((0.5, 0.3), (0.46, -0.06), (0.86, 0.04)), INK, 0.06)
    pen.draw.rounded_rectangle(
        [pen.at(0.22, 0.22), pen.at(0.78, 0.98)],
        radius=round(0.27 * pen.size),
        fill=(240, 240, 244),
        outline=INK,
        width=pen.line_width(0.055),
    )
    pen.line([(0.22, 0.52), (0.78, 0.52)], width=0.045)
    pen.line([(0.5, 0.24), (0.5, 0.52)], width=0.045)
    pen.oval(0.44, 0.32, 0.56, 0.48, (70, 160, 235), 0.03)


def paint_crane_bird(pen: Pen) -> None:
    """A crane, the bird, on its legs."""
    pen.line([(0.44, 0.68), (0.44, 1.0)], width=0.045)
    pen.line([(0.56, 0.68), (0.58, 1.0)], width=0.045)
    pen.shape(
        curve((0.1, 0.74), (0.2, 0.36), (0.66, 0.46))
        + curve((0.74, 0.6), (0.56, 0.84), (0.1, 0.74)),
        (250, 250, 252),
    )
    pen.shape([(0.02, 0.82), (0.1, 0.62), (0.3, 0.62), (0.2, 0.78)], (70, 70, 80), 0.02)
    pen.line(curve((0.66, 0.54), (0.86, 0.4), (0.68, 0.14)), INK, 0.13)
    pen.line(curve((0.66, 0.54), (0.86, 0.4), (0.68, 0.14)), (250, 250, 252), 0.06)
    pen.oval(0.58, 0.04, 0.78, 0.22, (250, 250, 252))
    pen.shape([(0.77, 0.1), (1.02, 0.16), (0.77, 0.19)], (240, 180, 50), 0.02)
    pen.oval(0.6, 0.02, 0.74, 0.1, (220, 50, 50), 0.0)


def paint_crane_machine(pen: Pen) -> None:
    """A crane, the machine, that lifts a load."""
    yellow = (248, 196, 40)
    pen.box(0.14, 0.9, 0.56, 1.0, (120, 120, 128))
    pen.box(0.27, 0.18, 0.41, 0.92, yellow)
    pen.line([(0.28, 0.34), (0.4, 0.5), (0.28, 0.66), (0.4, 0.82)], width=0.03)
    pen.box(0.02, 0.16, 1.0, 0.28, yellow)
    pen.line([(0.34, 0.0), (0.06, 0.18)], width=0.035)
    pen.line([(0.34, 0.0), (0.92, 0.18)], width=0.035)
    pen.line([(0.34, 0.0), (0.34, 0.2)], width=0.05)
    pen.box(0.02, 0.26, 0.18, 0.42, (120, 120, 128))
    pen.line([(0.84, 0.28), (0.84, 0.62)], width=0.04)
    pen.box(0.72, 0.62, 0.96, 0.82, (205, 84, 60))


def paint_bow_ribbon(pen: Pen) -> None:
    """A bow of ribbon."""
    red = (232, 64, 96)
    pen.shape([(0.46, 0.52), (0.28, 0.96), (0.44, 0.86), (0.52, 0.6)], red)
    pen.shape([(0.54, 0.52), (0.72, 0.96), (0.56, 0.86), (0.48, 0.6)], red)
    pen.shape([(0.5, 0.46), (0.04, 0.12), (0.0, 0.44), (0.06, 0.78)], red)
    pen.shape([(0.5, 0.46), (0.96, 0.12), (1.0, 0.44), (0.94, 0.78)], red)
    pen.oval(0.39, 0.33, 0.61, 0.59, (250, 130, 150))


def paint_bow_weapon(pen: Pen) -> None:
    """A bow and its arrow."""
    pen.line([(0.36, 0.02), (0.16, 0.5), (0.36, 0.98)], (250, 250, 250), 0.03)
    pen.line(curve((0.36, 0.02), (1.06, 0.5), (0.36, 0.98)), INK, 0.14)
    pen.line(curve((0.36, 0.02), (1.06, 0.5), (0.36, 0.98)), (166, 104, 52), 0.075)
    pen.line([(0.1, 0.5), (0.94, 0.5)], INK, 0.05)
    pen.shape([(1.04, 0.5), (0.84, 0.4), (0.84, 0.6)], (200, 206, 214), 0.03)
    pen.shape([(0.02, 0.4), (0.16, 0.5), (0.02, 0.6)], (224, 70, 60), 0.02)


def paint_fan_hand(pen: Pen) -> None:
    """A fan to hold in the hand."""
    rim = [
        (0.5 + 0.52 * math.cos(math.radians(a)), 0.86 + 0.74 * math.sin(math.radians(a)))
        for a in range(205, 336, 13)
    ]
    pen.shape([(0.5, 0.9), *rim], (240, 120, 90))
    inner = [(0.5 + (x - 0.5) * 0.5, 0.88 + (y - 0.88) * 0.5) for x, y in rim]
    pen.shape([(0.5, 0.9), *inner], (250, 214, 150), 0.02)
    for point in rim[::2]:
        pen.line([(0.5, 0.9), point], width=0.025)
    pen.oval(0.43, 0.83, 0.57, 0.97, (120, 70, 50))


def paint_fan_electric(pen: Pen) -> None:
    """A fan with blades."""
    pen.box(0.44, 0.62, 0.56, 0.94, (190, 196, 204))
    pen.box(0.24, 0.9, 0.76, 1.0, (120, 126, 136))
    pen.oval(0.12, 0.0, 0.88, 0.74, (228, 240, 246), 0.06)
    for angle in (90, 210, 330):
        points = curve((0.5, 0.37), (0.72, 0.12), (0.6, 0.06)) + curve(
            (0.46, 0.04), (0.38, 0.16), (0.5, 0.37)
        )
        pivot = [(x, y + 0.13) for x, y in points]
        pen.shape([(x, y - 0.13) for x, y in turned(pivot, angle)], (80, 150, 215), 0.025)
    pen.oval(0.42, 0.29, 0.58, 0.45, (60, 66, 80), 0.02)


def paint_hat(pen: Pen) -> None:
    """A hat."""
    pen.box(0.24, 0.14, 0.76, 0.8, (58, 56, 70))
    pen.box(0.24, 0.58, 0.76, 0.72, (214, 60, 60), 0.02)
    pen.box(0.0, 0.76, 1.0, 0.9, (58, 56, 70))


def paint_balloon(pen: Pen) -> None:
    """A balloon on its string."""
    pen.line(curve((0.5, 0.74), (0.36, 0.86), (0.52, 1.0)), INK, 0.035)
    pen.shape([(0.5, 0.68), (0.42, 0.8), (0.58, 0.8)], (236, 72, 72))
    pen.oval(0.18, 0.0, 0.82, 0.74, (240, 80, 76))
    pen.oval(0.3, 0.12, 0.44, 0.3, (255, 190, 186), 0.0)


def paint_umbrella(pen: Pen) -> None:
    """An open umbrella."""
    pen.line([(0.5, 0.06), (0.5, 0.84)], width=0.055)
    pen.arc(0.5, 0.76, 0.72, 0.98, 0, 180, width=0.06)
    dome = [
        (0.5 + 0.5 * math.cos(math.radians(a)), 0.5 + 0.42 * math.sin(math.radians(a)))
        for a in range(180, 361, 15)
    ]
    pen.shape(
        [*dome, (0.83, 0.42), (0.66, 0.52), (0.5, 0.42), (0.34, 0.52), (0.17, 0.42)], (60, 140, 210)
    )
    pen.shape(
        [
            (0.5, 0.09),
            *curve((0.34, 0.52), (0.34, 0.24), (0.5, 0.09)),
            (0.34, 0.52),
            (0.5, 0.42),
            (0.66, 0.52),
            *curve((0.66, 0.52), (0.66, 0.24), (0.5, 0.09)),
        ],
        (250, 236, 120),
        0.025,
    )


def paint_flower(pen: Pen) -> None:
    """A flower."""
    pen.line([(0.5, 0.5), (0.5, 1.0)], (52, 140, 66), 0.08)
    pen.shape(
        curve((0.5, 0.9), (0.7, 0.62), (0.92, 0.72)) + curve((0.9, 0.74), (0.8, 0.94), (0.5, 0.92)),
        (80, 176, 90),
        0.03,
    )
    for k in range(6):
        x, y = 0.5 + 0.23 * math.cos(k * math.pi / 3), 0.33 + 0.23 * math.sin(k * math.pi / 3)
        pen.oval(x - 0.145, y - 0.145, x + 0.145, y + 0.145, (250, 250, 250), 0.035)
    pen.oval(0.36, 0.19, 0.64, 0.47, (250, 180, 40), 0.035)


def paint_boat(pen: Pen) -> None:
    """A boat with two sails."""
    pen.line([(0.46, 0.02), (0.46, 0.7)], width=0.06)
    pen.shape([(0.53, 0.04), (0.53, 0.58), (0.94, 0.58)], (250, 250, 250))
    pen.shape([(0.4, 0.14), (0.4, 0.58), (0.1, 0.58)], (250, 220, 130))
    pen.shape([(0.0, 0.68), (1.0, 0.68), (0.82, 0.96), (0.18, 0.96)], (196, 84, 56))


def paint_fish(pen: Pen) -> None:
    """A fish."""
    pen.shape([(0.3, 0.5), (0.0, 0.2), (0.04, 0.5), (0.0, 0.82)], (248, 146, 50))
    pen.shape([(0.46, 0.3), (0.64, 0.08), (0.74, 0.32)], (248, 146, 50))
    pen.oval(0.2, 0.22, 1.0, 0.8, (252, 164, 64))
    pen.arc(0.4, 0.26, 0.76, 0.76, -70, 70, (255, 255, 255), 0.05)
    pen.oval(0.78, 0.36, 0.9, 0.48, (255, 255, 255), 0.02)
    pen.oval(0.82, 0.39, 0.88, 0.45, INK, 0.0)


def paint_key(pen: Pen) -> None:
    """A key."""
    gold = (246, 202, 70)
    pen.shape(
        [
            (0.4, 0.44),
            (1.0, 0.44),
            (1.0, 0.74),
            (0.88, 0.74),
            (0.88, 0.58),
            (0.78, 0.58),
            (0.78, 0.7),
            (0.67, 0.7),
            (0.67, 0.56),
            (0.4, 0.56),
        ],
        gold,
    )
    pen.oval(0.0, 0.24, 0.5, 0.76, gold, 0.05)
    pen.oval(0.15, 0.39, 0.35, 0.61, (250, 250, 245), 0.045)


def paint_candle(pen: Pen) -> None:
    """A candle that burns."""
    pen.oval(0.16, 0.82, 0.84, 1.0, (170, 124, 70))
    pen.box(0.34, 0.4, 0.66, 0.92, (252, 244, 226))
    pen.line([(0.5, 0.4), (0.5, 0.3)], width=0.04)
    pen.shape(
        curve((0.5, 0.0), (0.74, 0.26), (0.5, 0.34)) + curve((0.5, 0.34), (0.26, 0.26), (0.5, 0.0)),
        (255, 170, 40),
        0.03,
    )
    pen.oval(0.45, 0.18, 0.55, 0.31, (255, 244, 150), 0.0)


PAINTERS: dict[str, Callable[[Pen], None]] = {
    "eyeglasses": paint_eyeglasses,
    "tumblers": paint_tumblers,
    "bat (animal)": paint_bat_animal,
    "bat (sport)": paint_bat_sport,
    "mouse (animal)": paint_mouse_animal,
    "mouse (computer)": paint_mouse_computer,
    "crane (bird)": paint_crane_bird,
    "crane (machine)": paint_crane_machine,
    "bow (ribbon)": paint_bow_ribbon,
    "bow (weapon)": paint_bow_weapon,
    "fan (hand)": paint_fan_hand,
    "fan (electric)": paint_fan_electric,
    "hat": paint_hat,
    "balloon": paint_balloon,
    "umbrella": paint_umbrella,
    "flower": paint_flower,
    "boat": paint_boat,
    "fish": paint_fish,
    "key": paint_key,
    "candle": paint_candle,
}

SKIES = {
    "sun": (150, 212, 246),
    "rain": (140, 156, 176),
    "snow": (206, 218, 232),
    "night": (34, 38, 82),
    "storm": (92, 88, 112),
}
GROUNDS = {
    "sun": (150, 204, 110),
    "rain": (104, 132, 110),
    "snow": (248, 250, 252),
    "night": (44, 62, 74),
    "storm": (84, 92, 84),
}


def paint_weather(canvas: Image.Image, weather: str, rng: random.Random) -> None:
    """Paints sky, ground and weather over the whole canvas."""
    width, height = canvas.size
    draw = ImageDraw.Draw(canvas)
    draw.rectangle([0, 0, width, height], fill=SKIES[weather])
    draw.rectangle([0, round(0.8 * height), width, height], fill=GROUNDS[weather])
    unit = min(width, height)
    places = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(34)]
    if weather == "sun":
        pen = Pen(draw, width - 0.3 * unit, -0.06 * unit, 0.34 * unit)
        for k in range(12):
            a = k * math.pi / 6
            pen.line(
                [(0.5, 0.5), (0.5 + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a))],
                (252, 214, 60),
                0.07,
            )
        draw.ellipse([pen.at(0.2, 0.2), pen.at(0.8, 0.8)], fill=(252, 214, 60))
    elif weather == "rain":
        for x, y in places:
            draw.line(
                [x, y, x - 0.03 * unit, y + 0.11 * unit],
                fill=(70, 110, 190),
                width=round(0.018 * unit),
            )
    elif weather == "snow":
        for x, y in places:
            r = 0.022 * unit
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    elif weather == "night":
        for x, y in places[:18]:
            r = 0.012 * unit
            draw.ellipse([x - r, 0.8 * y - r, x + r, 0.8 * y + r], fill=(255, 246, 190))
        pen = Pen(draw, 0.03 * unit, 0.03 * unit, 0.2 * unit)
        draw.ellipse([pen.at(0, 0), pen.at(1, 1)], fill=(255, 246, 190))
        draw.ellipse([pen.at(0.3, -0.1), pen.at(1.3, 0.9)], fill=SKIES["night"])
    else:
        for x in (0.12, 0.86):
            pen = Pen(draw, x * width - 0.15 * unit, 0.0, 0.3 * unit)
            bolt = [
                (0.6, 0.0),
                (0.2, 0.6),
                (0.48, 0.6),
                (0.3, 1.1),
                (0.86, 0.42),
                (0.56, 0.42),
                (0.8, 0.0),
            ]
            draw.polygon([pen.at(px, 1.2 * py) for px, py in bolt], fill=(255, 232, 70))


def paint_face(pen: Pen, expression: float, colour: Colour) -> None:
    """Paints a face: the mouth bends, the brows tilt and the eyes open with the expression, -1 to
    1.
    """
    pen.oval(0.0, 0.0, 1.0, 1.0, colour, 0.045)
    paint_eyes(pen, expression)
    paint_mouth(pen, expression)


def paint_eyes(pen: Pen, expression: float) -> None:
    """Paints the eyes and the brows of a face."""
    for side in (-1, 1):
        x, opening = 0.5 + 0.2 * side, 0.085 + 0.03 * expression
        pen.oval(x - 0.075, 0.4 - opening, x + 0.075, 0.4 + opening, INK, 0.0)
        pen.line(
            [
                (x - 0.12 * side, 0.215 - 0.08 * max(0, -expression) - 0.01 * expression),
                (x + 0.13 * side, 0.205 + 0.1 * max(0, -expression) - 0.02 * expression),
            ],
            INK,
            0.06,
        )


def paint_mouth(pen: Pen, expression: float) -> None:
    """Paints the mouth of a face."""
    bend = 0.34 * expression
    mouth = curve((0.24, 0.7 - 0.4 * bend), (0.5, 0.7 + 1.1 * bend), (0.76, 0.7 - 0.4 * bend))
    pen.line(mouth, INK, 0.085)


@dataclass(frozen=True)
class Layout:
    """Where the face and the object of a card lie, in shares of its middle square.

    (0, 0) is the square's top left and (1, 1) its bottom right; x and y are those of the centres.
    """

    face_x: float
    face_y: float
    face_radius: float
    object_x: float
    object_y: float
    object_size: float


def layout(card: Card) -> Layout:
    """Where a card's face and object lie: `picture` paints them there, lesson 02 looks for them."""
    if card.relation == "beside":
        x, y = (0.29, 0.54) if card.side == "right" else (0.71, 0.54)
        thing_x, thing_y, thing_size = (0.745 if card.side == "right" else 0.255), 0.6, 0.43
    else:
        x, y = 0.5, 0.7
        thing_x, thing_y, thing_size = 0.5, 0.7 - card.face_radius - 0.17, 0.42
    return Layout(
        face_x=x + card.face_x,
        face_y=y + card.face_y,
        face_radius=card.face_radius,
        object_x=thing_x + 0.5 * card.face_x,
        object_y=thing_y + card.face_y,
        object_size=thing_size,
    )


def picture(card: Card) -> Image.Image:
    """Paints a card: an RGB image of (card.width, card.height) pixels.

    The face and the object lie inside the middle square of the card; the weather fills all of it.
    A card whose object is "" is painted without one (lesson 14).
    """
    width, height = OVERSAMPLE * card.width, OVERSAMPLE * card.height
    canvas = Image.new("RGB", (width, height))
    paint_weather(canvas, card.weather, random.Random(f"{card.name}/weather"))
    square = min(width, height)
    left, top = (width - square) / 2, (height - square) / 2
    draw = ImageDraw.Draw(canvas)
    place = layout(card)

    def pen(x: float, y: float, half: float) -> Pen:
        return Pen(draw, left + (x - half) * square, top + (y - half) * square, 2 * half * square)

    face = pen(place.face_x, place.face_y, place.face_radius)
    paint_face(face, card.expression, COLOURS[card.colour][0])
    if card.object:
        PAINTERS[card.object](pen(place.object_x, place.object_y, place.object_size / 2))
    return canvas.reduce(OVERSAMPLE)


@dataclass(frozen=True)
class Frame:
    """What a frame of a clip shows: expression, the face's place, the share of the new weather."""

    expression: float
    face_x: float
    blend: float


def frame_of(card: Card, k: int) -> Frame:
    """What frame k (0 to CLIP_FRAMES - 1) of a card's clip shows. Lesson 08 measures with it."""
    done = (k - card.clip_from) / (card.clip_until - card.clip_from)
    done = min(1.0, max(0.0, done))  # the share of the change that is over
    expression, face_x = card.clip_expression, card.clip_x
    if card.change == "mood":
        expression += clip_direction(card.change_to) * CLIP_STEP["mood"] * done
    elif card.change == "place":
        face_x += clip_direction(card.change_to) * CLIP_STEP["place"] * done
    return Frame(round(expression, 4), round(face_x, 4), done if card.change == "weather" else 0.0)


def clip(card: Card) -> list[Image.Image]:
    """Paints a card's clip: CLIP_FRAMES RGB images of CLIP_SIZE x CLIP_SIZE pixels.

    The camera's red light, at the bottom left, is on in every other frame. So no two neighbours are
    the same, though nothing else moves before and after the change. (A webp file keeps no repeated
    frames.)
    Raises ValueError when the card has no clip.
    """
    if not card.change:
        raise ValueError(
            f"Card {card.name} has no clip: give it one with postcards.with_clip(card, seed)."
        )
    card = replace(card, width=CLIP_SIZE, height=CLIP_SIZE)
    frames = []
    for k in range(CLIP_FRAMES):
        shown = frame_of(card, k)
        now = replace(card, expression=shown.expression, face_x=shown.face_x)
        image = picture(now)
        if shown.blend:
            image = Image.blend(image, picture(replace(now, weather=card.change_to)), shown.blend)
        if (k + card.clip_light) % 2:
            ImageDraw.Draw(image).ellipse([2, 57, 6, 61], fill=(230, 20, 40))
        frames.append(image)
    return frames
