"""Equations as MathML, which every browser draws without help, so that no page asks the network.

Lessons write them as `$…$` within a line and `$$…$$` on their own.
"""

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert

PRIME = "\u2032"
"""The converter raises it, as TeX does; as fonts draw it, it is raised already."""
NAMESPACE = "http://www.w3.org/1998/Math/MathML"
BAR = "\u2015"
"""What the converter puts above what is overlined. Few fonts have one that grows; a border does."""

LEFT_OVER = re.compile(r"\\[A-Za-z]+")
"""What the converter leaves behind where it does not know a command: the command."""


def mathml(tex: str, display: bool = False) -> str:
    """An equation in LaTeX as a `<math>` element; display: on a line of its own.

    Raises ValueError when a part of it cannot be converted.
    """
    try:
        text = convert(tex.strip(), display="block" if display else "inline")
    except Exception as error:  # the converter has a class of error for each kind of mistake
        raise ValueError(
            f"This equation cannot be converted ({error}): write {tex.strip()} otherwise."
        ) from None
    element = ElementTree.fromstring(text.replace(f' xmlns="{NAMESPACE}"', ""))
    for part in element.itertext():
        if LEFT_OVER.match(part):
            raise ValueError(
                f"This equation cannot be converted, because {part} is unknown: write "
                f"{tex.strip()} otherwise."
            )
    for raised in element.iter("msup"):
        if raised[1].text == PRIME:
            raised.tag = "mrow"
            raised[1].tag = "mo"
            raised[1].attrib.update(lspace="0", rspace="0")
    for over in element.iter("mover"):
        if len(over) == 2 and over[1].text == BAR:
            over.remove(over[1])
            over.tag = "mrow"
            over.set("style", "border-top: 0.06em solid; padding-top: 0.12em")
    return ElementTree.tostring(element, encoding="unicode")


def width(element: str) -> float:
    """About how wide a `<math>` element is, in heights of its letters."""
    return _width(ElementTree.fromstring(element))


def _width(element: Element) -> float:
    parts = [_width(one) for one in element]
    text = element.text or ""
    if element.tag == "mo":
        return 0.5 if len(text) == 1 and text in "()[]{},.;|′⌊⌋" else 0.65 + 0.5 * len(text)
    if element.tag in ("mi", "mn", "mtext"):
        return sum(0.9 if letter in "mwMWH" else 0.6 for letter in text)
    if element.tag == "mspace":
        return float(element.get("width", "0em").removesuffix("em"))
    if element.tag in ("mfrac", "munder", "mover", "munderover"):
        return max(parts, default=0) + 0.2
    if element.tag in ("msub", "msup", "msubsup"):
        return parts[0] + 0.7 * max(parts[1:])
    if element.tag == "mtable":
        rows = [[_width(cell) for cell in row] for row in element]
        return sum(max(column) + 0.8 for column in zip(*rows, strict=True))
    return sum(parts) + (0.6 if element.tag == "msqrt" else 0)
