"""Equations as MathML, which every browser draws without help, so that no page asks the network.

Lessons write them as `$…$` within a line and `$$…$$` on their own.
"""

import html
import re

from latex2mathml.converter import convert

LEFT_OVER = re.compile(r"\\[A-Za-z]+")
"""What the converter leaves behind where it does not know a command: the command."""


def mathml(tex: str, display: bool = False) -> str:
    """An equation in LaTeX as a `<math>` element; display: on a line of its own.

    Raises ValueError when a part of it cannot be converted.
    """
    try:
        element = convert(tex.strip(), display="block" if display else "inline")
    except Exception as error:  # the converter has a class of error for each kind of mistake
        raise ValueError(f"This equation cannot be converted: {tex.strip()} ({error})") from None
    seen = html.unescape(re.sub(r"<[^>]*>", " ", element))
    if found := LEFT_OVER.search(seen):
        raise ValueError(
            f"This equation cannot be converted, because {found[0]} is unknown: {tex.strip()}"
        )
    return element
