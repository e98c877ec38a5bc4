"""What a finger does on a screen that feels it."""


def drag_by_finger(page, start, end, steps=8) -> None:
    """A finger goes down at one place of the screen, moves to another, and is lifted."""
    session = page.context.new_cdp_session(page)
    ways = [start + (end - start) * k / steps for k in range(steps + 1)]
    for k, way in enumerate(ways):
        kind = "touchMove" if k else "touchStart"
        points = [{"x": way.real, "y": way.imag}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
