"""Draws faces whose brows, eyes and mouth follow action units, and computes their landmarks.

Face coordinates: origin between eyes and mouth, x to the right in half face widths, y downwards in the
same unit. A pose maps them to pixels of a canvas.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

ACTION_UNITS = (
    "inner_brows_up",  # AU1
    "left_outer_brow_up",  # AU2
    "right_outer_brow_up",
    "left_brow_down",  # AU4
    "right_brow_down",
    "lids_up",  # AU5
    "lids_tight",  # AU7
    "left_corner_up",  # AU12, AU14
    "right_corner_up",
    "corners_down",  # AU15
    "lips_pressed",  # AU24
    "lips_pursed",  # AU18
    "jaw_open",  # AU26
)
_ACTIVE: dict[str, dict[str, float]] = {
    "smile": {"left_corner_up": 1, "right_corner_up": 1, "lids_tight": 0.4},
    "sorrow": {"inner_brows_up": 1, "corners_down": 1},
    "still": {},
    "frown": {"left_brow_down": 1, "right_brow_down": 1, "lids_tight": 0.7, "lips_pressed": 1},
    "startle": {
        "inner_brows_up": 0.8,
        "left_outer_brow_up": 1,
        "right_outer_brow_up": 1,
        "lids_up": 1,
        "jaw_open": 1,
    },
    # Given for the left side; mirrored for half of the people.
    "smirk": {"left_corner_up": 1.1, "lids_tight": 0.2},
    "squint": {"left_outer_brow_up": 1.1, "right_brow_down": 0.6, "lips_pursed": 1},
}
_SWAP_SIDES = {"left": "right", "right": "left"}
_MIRRORED = [
    ACTION_UNITS.index("_".join(_SWAP_SIDES.get(word, word) for word in name.split("_")))
    for name in ACTION_UNITS
]
# How far the jaw opens while speaking. A startled face opens it four times as far.
TALKING_JAW = 0.25
JAW_OPEN = ACTION_UNITS.index("jaw_open")
NUM_LANDMARKS = 15
SIDES = (-1, 1)  # left and right in the picture


def draw_action_units(face: str, random: np.random.Generator) -> Floats:
    """(13,) intensities in 0..1.4 of one person's version of a face."""
    units = np.array([_ACTIVE[face].get(name, 0.0) for name in ACTION_UNITS])
    units = units * random.uniform(0.75, 1.2, len(units)) + random.uniform(0, 0.08, len(units))
    return units[_MIRRORED] if random.random() < 0.5 else units


@dataclass(frozen=True, slots=True)
class Person:
    """Everything about a picture except the expression."""

    width: int  # pixels of the canvas
    height: int
    pose: Floats  # (2, 3) face coordinates -> pixels
    skin: Colour
    hair: Colour
    brows: Colour
    lips: Colour
    iris: Colour
    walls: tuple[Colour, Colour]
    hair_line: float  # y below which the forehead is bare
    brow_width: float
    glasses: bool
    objects: tuple[tuple[Floats, Colour], ...]  # background rectangles: (2, 2) corners in 0..1


def draw_person(random: np.random.Generator) -> Person:
    """Draws a random person: skin from dark to light, any background, position, size and tilt."""
    width, height = random.choice([(256, 192), (192, 192), (192, 256), (320, 192), (320, 240)])
    size = min(width, height) * random.uniform(0.25, 0.36)
    centre = np.array([width, height]) * random.uniform(0.42, 0.58, 2)
    angle = np.deg2rad(random.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tone = random.uniform(70, 250)
    skin = tone * np.array([1.0, random.uniform(0.72, 0.86), random.uniform(0.52, 0.76)])
    lips = skin * np.array([0.85, 0.5, 0.55])
    hair = random.choice([20, 60, 110, 190]) * np.sort(random.uniform(0.4, 1.0, 3))[::-1]
    objects = tuple(
        (np.sort(random.uniform(0, 1, (2, 2)), axis=0), _colour(random.uniform(20, 235, 3)))
        for _ in range(random.integers(0, 5))
    )
    return Person(
        width=int(width),
        height=int(height),
        pose=np.column_stack([turn * size * [random.uniform(0.88, 1.05), 1.0], centre]),
        skin=_colour(skin),
        hair=_colour(hair),
        brows=_colour(np.minimum(hair, skin) * 0.5),
        lips=_colour(lips),
        iris=_colour(random.uniform(15, 90, 3)),
        walls=(_colour(random.uniform(20, 235, 3)), _colour(random.uniform(20, 235, 3))),
        hair_line=random.uniform(-1.0, -0.75),
        brow_width=random.uniform(0.08, 0.13),
        glasses=random.random() < 0.12,
        objects=objects,
    )


def _colour(values: Floats) -> Colour:
    red, green, blue = values.clip(0, 255).astype(int).tolist()
    return red, green, blue


def landmarks(units: Floats) -> Floats:
    """(15, 2) face coordinates: brows (inner, middle, outer; left, right), lids, eyes, mouth, nose."""
    au = dict(zip(ACTION_UNITS, units, strict=True))
    points: list[tuple[float, float]] = []
    for side, name in zip(SIDES, ("left", "right"), strict=True):
        outer, down = au[f"{name}_outer_brow_up"], au[f"{name}_brow_down"]
        inner_y = -0.5 - 0.17 * au["inner_brows_up"] + 0.16 * down
        points += [
            (side * (0.17 - 0.05 * down), inner_y),
            (side * 0.4, -0.56 - 0.05 * au["inner_brows_up"] - 0.15 * outer + 0.1 * down),
            (side * 0.66, -0.48 - 0.2 * outer + 0.02 * down),
        ]
    opening = eye_opening(units)
    points += [(side * 0.4, -0.2 - opening) for side in SIDES]
    points += [(side * 0.4, -0.2) for side in SIDES]
    half_width = 0.33 - 0.13 * au["lips_pursed"] - 0.04 * au["jaw_open"]
    for side, name in zip(SIDES, ("left", "right"), strict=True):
        up = au[f"{name}_corner_up"]
        points.append(
            (side * (half_width + 0.08 * up), 0.6 - 0.19 * up + 0.17 * au["corners_down"])
        )
    smile = au["left_corner_up"] + au["right_corner_up"]
    middle = 0.6 + 0.02 * smile - 0.03 * au["corners_down"]
    lip = 0.065 - 0.04 * au["lips_pressed"] + 0.05 * au["lips_pursed"]
    points += [(0, middle - lip), (0, middle + lip + 0.36 * au["jaw_open"]), (0, 0.22)]
    return np.array(points)


def eye_opening(units: Floats) -> float:
    """Half the height of the open eye."""
    lids_up, lids_tight = (units[ACTION_UNITS.index(name)] for name in ("lids_up", "lids_tight"))
    return float(0.095 * max(0.3, 1 + 0.75 * lids_up - 0.5 * lids_tight))


def draw_face(person: Person, units: Floats) -> Image.Image:
    """A picture of the person with this expression: RGB, the size of the canvas."""
    image = draw_background(person)
    pen = _Pen(ImageDraw.Draw(image), person.pose)
    points = landmarks(units)
    shade: Colour = _colour(np.array(person.skin) * 0.72)
    pen.ellipse((0, -0.25), (1.08, 1.2), person.hair)
    pen.ellipse((0, 0.05), (0.98, 1.22), person.skin)
    pen.polygon(_arc((0, -0.25), (1.02, 1.12), person.hair_line + 0.25), person.hair)
    opening = eye_opening(units)
    for index, side in enumerate(SIDES):
        pen.ellipse((side * 0.4, -0.2), (0.19, opening), (245, 245, 245))
        pen.ellipse((side * 0.4, -0.2), (min(0.085, opening), min(0.085, opening)), person.iris)
        pen.line(
            _bend((side * 0.6, -0.2), (side * 0.4, -0.2 - opening), (side * 0.2, -0.2)), shade, 0.04
        )
        pen.line(_bend(*points[3 * index : 3 * index + 3]), person.brows, person.brow_width)
        if person.glasses:
            pen.line(_oval((side * 0.4, -0.2), (0.3, 0.24)), (30, 30, 30), 0.035)
    pen.line(np.array([[0.0, -0.1], [-0.09, 0.2], [0.05, 0.22]]), shade, 0.04)
    left, right, top, bottom = points[10:14]
    pen.polygon(np.concatenate([_bend(left, top, right), _bend(right, bottom, left)]), person.lips)
    if units[JAW_OPEN] > 0.12:
        gap = np.array(
            [(0.8 * left + 0.2 * right), top + np.array([0, 0.06]), 0.2 * left + 0.8 * right]
        )
        low = bottom - np.array([0, 0.06])
        pen.polygon(np.concatenate([_bend(*gap), _bend(gap[2], low, gap[0])]), (50, 15, 20))
    else:
        pen.line(
            _bend(left, (top + bottom) / 2, right), _colour(np.array(person.lips) * 0.5), 0.035
        )
    return image


def draw_background(person: Person) -> Image.Image:
    """A wall whose colour changes from side to side, with rectangles on it."""
    ramp = np.linspace(0, 1, person.width)[None, :, None]
    wall = (1 - ramp) * np.array(person.walls[0]) + ramp * np.array(person.walls[1])
    image = Image.fromarray(np.repeat(wall.astype(np.uint8), person.height, axis=0))
    draw = ImageDraw.Draw(image)
    for corners, colour in person.objects:
        draw.rectangle([*(corners * [person.width, person.height]).ravel().tolist()], fill=colour)
    return image


class _Pen:
    """Draws in face coordinates."""

    def __init__(self, draw: ImageDraw.ImageDraw, pose: Floats) -> None:
        self._draw, self._pose = draw, pose
        self._scale = float(np.sqrt(abs(np.linalg.det(pose[:, :2]))))  # pixels per unit

    def polygon(self, points: Floats, colour: Colour) -> None:
        self._draw.polygon(self._pixels(points), fill=colour)

    def line(self, points: Floats, colour: Colour, width: float) -> None:
        thickness = max(1, round(width * self._scale))
        self._draw.line(self._pixels(points), fill=colour, width=thickness, joint="curve")

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], fill: Colour
    ) -> None:
        self.polygon(_oval(centre, radii), fill)

    def _pixels(self, points: Floats) -> list[tuple[float, float]]:
        placed = points @ self._pose[:, :2].T + self._pose[:, 2]
        return [(x, y) for x, y in placed.tolist()]


def _oval(centre: tuple[float, float], radii: tuple[float, float]) -> Floats:
    angles = np.linspace(0, 2 * np.pi, 28)
    return np.array(centre) + np.stack([np.cos(angles), np.sin(angles)], 1) * radii


def _arc(centre: tuple[float, float], radii: tuple[float, float], bottom: float) -> Floats:
    """The part of an ellipse above `bottom`, which is relative to its centre."""
    end = np.arcsin(np.clip(bottom / radii[1], -1, 1))
    angles = np.linspace(np.pi - end, 2 * np.pi + end, 20)
    return np.array(centre) + np.stack([np.cos(angles), np.sin(angles)], 1) * radii


def _bend(start: object, middle: object, end: object) -> Floats:
    """(9, 2) points of a parabola from start to end that passes through `middle` half-way."""
    a, b, c = (np.asarray(point, dtype=float) for point in (start, middle, end))
    t = np.linspace(0, 1, 9)[:, None]
    control = 2 * b - (a + c) / 2
    curve: Floats = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * c
    return curve
