"""plots.py: pictures are not compared by nbval, so the figures are tested here."""

import inspect
import io

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import Code
from PIL import Image

from mbm_lab import costs, fusion, plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def labels(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def test_show_displays_a_png_with_alt_text_and_closes_the_figure(monkeypatch):
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    alt = "A line that rises from zero to one, as an example for the test."
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **options: shown.append((data, options)))
    plots.show(figure, alt)
    (data, options), (words, _) = shown
    assert data["image/png"].startswith(b"\x89PNG")
    assert options["metadata"]["image/png"]["alt"] == data["text/plain"] == alt
    assert f"<summary>This figure in words</summary>{alt}</details>" in words["text/html"]
    assert not plt.fignum_exists(figure.number)


def test_a_figure_stays_white_and_is_dimmed_on_a_dark_page_only(monkeypatch):
    """Its letters are black. The style finds the course's own figures by their words below."""
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **options: shown.append(data))
    plots.show(plt.figure(), "An empty figure, as an example for the test of its frame.")
    pixels = Image.open(io.BytesIO(shown[0]["image/png"])).convert("RGB")
    assert pixels.getpixel((0, 0)) == (255, 255, 255)
    style, words = shown[1]["text/html"].split("</style>")
    assert 'class="mbm-words"' in words
    for rule in style.removeprefix("<style>").split("}")[:-1]:
        where, _, what = rule.partition("{")
        assert where.endswith(".jp-OutputArea:has(.mbm-words) .jp-RenderedImage img")
        assert ("filter" in what) == where.startswith("[data-jp-theme-light=false] ")


def test_show_asks_for_a_description():
    with pytest.raises(ValueError, match="Describe the figure"):
        plots.show(plt.figure(), "a line")


def test_colours_of_the_modalities_differ_for_colour_blind_readers():
    """In lightness alone (as printed in grey) picture, message and mood differ."""
    rgb = [torch.tensor([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255
           for c in (plots.PICTURE, plots.MESSAGE, plots.FUSED, plots.TRUTH)]  # fmt: skip
    lightness = sorted((colour @ torch.tensor([0.299, 0.587, 0.114])).item() for colour in rgb)
    assert min(b - a for a, b in zip(lightness, lightness[1:], strict=False)) > 0.08


def test_postcards_grid():
    figure = plots.postcards(torch.rand(5, 3, 64, 64), ["a", "b", "c", "d", "e"], columns=3)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["a", "b", "c", "d", "e"]
    assert len(figure.axes) == 6


@pytest.mark.parametrize("columns", [3, 6, 8])
@pytest.mark.parametrize("title", ["one line", "two\nlines", "three\nmore\nlines"])
def test_no_title_of_a_grid_is_cut_off(title, columns):
    figure = plots.postcards(torch.rand(8, 3, 64, 64), [title] * 8, columns, size=1.35)
    figure.canvas.draw()
    grid = [axes for axes in figure.axes if axes.images]
    pictures = [axes.get_window_extent() for axes in grid]
    for axes in grid:
        text = axes.title.get_window_extent()
        assert text.y1 <= figure.bbox.height
        assert not any(text.overlaps(picture) for picture in pictures)


def test_the_drawing_of_the_gates_has_every_part_of_a_step():
    (axes,) = plots.gru_gates().axes
    texts = [text.get_text() for text in axes.texts]
    for part in ("h", "h'", "x", "update z\nσ", "reset r\nσ", "proposal n\ntanh"):
        assert texts.count(part) == 1
    assert (texts.count("×"), texts.count("+")) == (3, 1)
    assert not axes.axison


def test_error_valley_shows_the_path_into_the_best():
    torch.manual_seed(0)
    m = torch.randn(300) / 3
    f, g = m + 0.2 * torch.randn(300), m + 0.2 * torch.randn(300)
    axis = torch.linspace(-1, 1, 20)
    best, path = fusion.best_weights(f, g, m), fusion.descend(f, g, m, steps=30)
    darts, _ = fusion.random_search(f, g, m, tries=40)
    figure = plots.error_valley(fusion.error_surface(f, g, m, axis, axis), axis, darts, path, best)
    axes, colour_bar = figure.axes
    assert labels(axes) == ("α, weight of the picture", "β, weight of the message")
    assert colour_bar.get_ylabel() == "mean squared error E"
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert lines["random search"].shape == (40, 2)
    assert lines["gradient descent"].tolist() == path[:, :2].tolist()
    assert lines["exact best"].tolist() == [list(best[:2])]


def test_seed_dots_has_one_row_a_model():
    results = {
        "picture alone": torch.tensor([0.6, 0.61]),
        "concatenation": torch.tensor([0.7, -0.2]),
    }
    figure = plots.seed_dots(results, 0.8, "limit", "R²")
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "concatenation",
        "picture alone",
    ]
    first, second, limit = axes.lines
    assert first.get_xdata().tolist() == pytest.approx([0.7, 0.0])
    assert second.get_color() == plots.GREY
    assert limit.get_xdata() == [0.8, 0.8]


def test_a_strip_shows_each_film_in_a_row_with_its_title():
    figure = plots.strip(
        torch.rand(2, 5, 3, 8, 8), ["one", "a long title that is much wider than its frame"]
    )
    assert len(figure.axes) == 10
    titles = [axes.texts[0].get_text() for axes in figure.axes[::5]]
    assert titles == ["one", "a long title that is much wider than its frame"]
    figure.canvas.draw()
    widths = {round(axes.get_position().width, 3) for axes in figure.axes}
    gaps = [
        b.get_position().x0 - a.get_position().x1
        for a, b in zip(figure.axes[:4], figure.axes[1:5], strict=True)
    ]
    assert len(widths) == 1
    assert max(gaps) < 0.05
    plots.plt.close(figure)


def test_a_film_is_shown_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **_: shown.append(data["text/html"]))
    with pytest.raises(ValueError, match="too short"):
        plots.show_film(b"RIFF", "a film")
    plots.show_film(b"RIFF", 'A film of "eight" frames in which the face becomes sadder.')
    assert "data:image/webp;base64,UklGRg==" in shown[0]
    assert 'alt="A film of &quot;eight&quot; frames' in shown[0]


def test_a_player_has_its_label_and_its_sound(monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", lambda data, **_: shown.append(data["text/html"]))
    plots.play(b"OggS", 'A "note"')
    assert "data:audio/ogg;base64,T2dnUw==" in shown[0]
    assert 'aria-label="A &quot;note&quot;"' in shown[0]


def test_a_lesson_shows_code_whole_in_the_colours_of_the_page():
    shown = plots.source(plots.strip)
    assert isinstance(shown, Code)
    data, _ = InteractiveShell.instance().display_formatter.format(shown)
    assert set(data) == {"text/plain", "text/markdown"}
    assert data["text/plain"] == inspect.getsource(plots.strip).rstrip()
    assert data["text/markdown"] == f"```python\n{inspect.getsource(plots.strip)}```"


LAYERS = [
    ("Conv2d 1", "a", 1000, 10, 1e-6), ("Conv2d 2", "b", 4000, 20, 1e-6),
    ("ReLU", "c", 10, 40, 1e-6), ("Embedding", "d", 0, 10, 1e-6),
]  # fmt: skip


def test_the_roofline_has_its_roofs_and_every_layer_that_computes():
    (axes,) = plots.roofline((8e9, 2e9, 1e10), LAYERS).axes
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert lines["Conv2d"] == pytest.approx(torch.tensor([[100, 1], [200, 4]]).numpy())
    assert lines["ReLU"] == pytest.approx(torch.tensor([[0.25, 0.01]]).numpy())
    assert lines["ridge"].tolist() == [[4, 8]]
    x, y = lines["roof from memory: 2 GB/s"].T
    assert y == pytest.approx([min(2 * one, 8) for one in x])
    x, y = lines["roof from the cache: 10 GB/s"].T
    assert y == pytest.approx([min(10 * one, 8) for one in x])
    assert [text.get_text() for text in axes.texts] == ["1", "2", ""]
    assert "Embedding" not in lines
    assert labels(axes) == ("operations for each byte moved", "billions of operations a second")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    (axes,) = plots.roofline((8e9, 2e9, float("nan")), LAYERS).axes
    assert not any("cache" in line.get_label() for line in axes.lines)


def test_every_kind_of_layer_has_a_mark_of_its_own():
    kinds = {kind.__name__ for kind in costs.LAYERS} - {"Embedding"}
    assert set(plots.KINDS) == kinds
    assert len({mark for _, mark in plots.KINDS.values()}) == len(kinds)


def test_gains_begin_at_one_and_say_what_was_not_tried():
    nothing = float("nan")
    trials = [("twice", 10.0, 20.0, ""), ("half", 10.0, 5.0, ""), ("same", 10.0, 10.3, ""),
              ("none", nothing, nothing, "Not here.")]  # fmt: skip
    (axes,) = plots.gains(trials).axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["none", "same", "half", "twice"]
    same, half, twice = axes.patches
    for bar, ratio in ((same, 1.03), (half, 0.5), (twice, 2)):
        assert (bar.get_x(), bar.get_width()) == pytest.approx((1, ratio - 1))
    colours = [plots.plt.matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert colours == [one.lower() for one in (plots.GREY, plots.MESSAGE, plots.PICTURE)]
    assert [text.get_text() for text in axes.texts] == ["not tried here", "1.03", "0.50", "2.00"]
    assert axes.get_xlim()[0] < 0.5
    assert axes.get_xlim()[1] > 2
    assert labels(axes)[0] == "times as fast"


def test_masks_are_dark_where_one_may_look():
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    figure = plots.masks({"causal": causal, "all": torch.ones(3, 3) == 1}, ["a", "<b>", "c"])
    first, second = figure.axes
    assert (first.images[0].get_array() == causal.numpy()).all()
    assert first.images[0].cmap(0.9)[0] < first.images[0].cmap(0.1)[0]  # True is darker
    assert (first.get_title(), second.get_title()) == ("causal", "all")
    for ticks in (first.get_xticklabels(), first.get_yticklabels()):
        assert [one.get_text() for one in ticks] == ["a", "<b>", "c"]
    assert labels(first) == ("may be looked at", "looks")


def test_a_sequence_has_a_square_for_each_token_in_order():
    figure = plots.sequences([("<ask>", 3, 2, 1), ("<film>", 1, 0, 4)])
    (axes,) = figure.axes
    squares = [one for one in axes.patches if one.get_width() > 0]
    drawn = {}
    for one in squares:
        row = drawn.setdefault(round(one.get_y() + one.get_height() / 2), {})
        row[one.get_x()] = one.get_facecolor()
    colours = [matplotlib.colors.to_rgba(one) for one in plots.PARTS_OF_A_SEQUENCE.values()]
    for row, counts in ((0, (3, 2, 1)), (1, (1, 0, 4))):
        wanted = [colour for colour, n in zip(colours, counts, strict=True) for _ in range(n)]
        assert [drawn[row][place] for place in range(len(wanted))] == wanted
    legend = [one.get_text() for one in axes.get_legend().get_texts()]
    assert legend == ["seen or heard", "prompt", "answer"]


def test_maps_lie_over_the_picture_row_by_row():
    values = torch.arange(4.0).view(2, 2)
    figure = plots.over_patches(torch.rand(3, 8, 8), {"block 1": values, "block 2": -values})
    assert [axes.get_title() for axes in figure.axes] == ["the picture", "block 1", "block 2"]
    over = figure.axes[1].images[1]
    assert (over.get_array() == values.numpy()).all()
    assert tuple(over.get_extent()) == (-0.5, 7.5, 7.5, -0.5)  # the whole picture, its top above
    assert figure.axes[2].images[1].get_array().max() == 0  # nothing below 0 looks large


def test_power_lines_are_those_of_the_formula_and_the_last_point_is_a_star():
    sizes, losses = [10, 100, 1000], [1.0, 0.1, 0.02]
    figure = plots.power_lines([("cards", sizes, losses, -1.0, 1.0)], "loss")
    (axes,) = figure.axes
    line, points, star = axes.get_lines()
    assert line.get_xdata() == pytest.approx([10, 1000])
    assert line.get_ydata() == pytest.approx([1.0, 0.01])
    assert (list(points.get_xdata()), list(points.get_ydata())) == (sizes[:2], losses[:2])
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([1000], [0.02])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert labels(axes) == ("cards", "loss")
