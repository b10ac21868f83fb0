"""Figures: one look a rule wherever it appears, told apart in colour and in grey, and files that hold a picture."""
import math
import struct
import subprocess
import sys

import pytest

from nplearn import plots
from nplearn.errors import SettingError
from nplearn.rules import registry

ALL = [*registry.RULES, *registry.CONTROLS]
OURS = list(plots.STYLE)                                # those of the quick start, which share a figure
FIGURES = {"quick start": OURS, **{title: [*dict.fromkeys([*family, "backprop", "frozen"])]
                                   for title, family in registry.FAMILIES.items()}}


def lightness(colour):
    """CIE L* of "#rrggbb", 0 to 100: how it prints in grey."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    Y = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return 116 * Y ** (1 / 3) - 16 if Y > 0.008856 else 903.3 * Y


@pytest.mark.parametrize("figure", FIGURES)
def test_rules_that_share_a_figure_differ_in_colour_and_in_grey_with_their_mark_and_dash(figure):
    looks = [plots.style(rule) for rule in FIGURES[figure]]
    assert len({colour for colour, _, _ in looks}) == len(looks) <= plots.MOST
    for i, (a, dash_a, mark_a) in enumerate(looks):
        for b, dash_b, mark_b in looks[:i]:
            assert (mark_a, dash_a) != (mark_b, dash_b)
            assert mark_a != mark_b or abs(lightness(a) - lightness(b)) > 12
        assert lightness(a) < 80, "readable on white"


def test_style_is_a_function_of_the_name_alone():
    names = [*ALL, "pfa:expand=5", "somebody-elses", "somebody-elses:scale=2"]
    looks = [plots.style(name) for name in names]
    assert looks == [plots.style(name) for name in names] and looks == [plots.style(n) for n in names[::-1]][::-1]
    code = f"from nplearn import plots; print([plots.style(n) for n in {names}])"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert again.strip() == str(looks)


def test_a_rule_with_options_keeps_its_colour_and_gets_a_look_of_its_own():
    plain, variant = plots.style("pfa"), plots.style("pfa:expand=5,density=0.3")
    assert plain[0] == variant[0] and plain[1:] != variant[1:]
    assert plots.style("theirs")[0] == plots.style("theirs:a=1")[0]
    assert all(plots.style(f"{rule}:scale=2")[2] not in {look[2] for look in map(plots.style, OURS)} for rule in OURS)


def test_mean_and_spread_are_over_the_seeds_that_have_a_number():
    means, spreads = plots.mean_and_spread([[1.0, None, 4.0, math.nan], [3.0, 5.0, 4.0, None], [8.0, 6.0, 4.0, None]])
    assert means[:3] == [4.0, 5.5, 4.0] and math.isnan(means[3])
    assert spreads == pytest.approx([math.sqrt(13), math.sqrt(0.5), 0, 0])
    assert plots.mean_and_spread([[2.0]]) == ([2.0], [0.0])


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def colours(path):
    import matplotlib.image
    red, green, blue, *_ = (matplotlib.image.imread(path) * 255).round().astype(int).reshape(-1, 4).T
    return {(n >> 16, n >> 8 & 255, n & 255) for n in set((red << 16 | green << 8 | blue).tolist())}


def rgb(colour):
    return tuple(int(colour[i:i + 2], 16) for i in (1, 3, 5))


def test_a_figure_shows_every_curve_in_its_rules_colour(tmp_path):
    series = {rule: [[10.0 * i, 20 + 5.0 * i, 30.0 + 3 * i], [10.0 * i + 2, 21 + 5.0 * i, 33 + 3 * i]]
              for i, rule in enumerate(OURS)}
    plots.curves([{"x": [0, 1, 2], "xlabel": "epoch", "ylabel": "test accuracy, %", "title": "all", "series": series},
                  {"x": [0, 1, 2], "xlabel": "epoch", "ylabel": "loss", "series": series, "names": False}],
                 tmp_path / "all.png", "both")
    width, height = png_size(tmp_path / "all.png")
    assert width > 1500 and height > 600
    seen = colours(tmp_path / "all.png")
    assert [rule for rule in OURS if rgb(plots.style(rule)[0]) not in seen] == []


@pytest.mark.parametrize(("panels", "start", "end"), [(1, 10, 90), (2, 10, 90), (1, 90, 10)])
def test_names_at_the_ends_of_curves_do_not_meet_and_nothing_is_cut_off(tmp_path, monkeypatch, panels, start, end):
    plt = plots.pyplot()
    monkeypatch.setattr(plt, "close", lambda figure: None)
    series = {rule: [[start, end + 0.2 * i]] for i, rule in enumerate(OURS)}    # all end at one edge, close together
    panel = {"x": [0, 1], "xlabel": "epoch", "ylabel": "test accuracy, %", "title": "mnist5k", "series": series}
    plots.curves([panel] * panels, tmp_path / "ends.png")
    monkeypatch.undo()
    figure = plt.gcf()
    figure.canvas.draw()
    whole = figure.bbox
    for axis in figure.axes:
        assert axis.get_window_extent().height > 0.6 * whole.height
        boxes = sorted((text.get_window_extent() for text in axis.texts), key=lambda box: box.y0)
        assert len(boxes) == len(OURS)
        assert all(below.y1 <= above.y0 + 3 for below, above in zip(boxes, boxes[1:], strict=False))
        assert all(box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
    legend = figure.legends[0].get_window_extent()
    assert whole.x0 <= legend.x0 and legend.x1 <= whole.x1 and whole.y0 <= legend.y0
    plt.close(figure)


@pytest.mark.parametrize("series", [{}, {"fa": [[None, None]]}, {"fa": [[math.nan, 90.0]], "dfa": [[None, None]]},
                                    {"kp": [[1.0, None]]}])
def test_curves_without_numbers_are_left_out_and_break_nothing(series, tmp_path):
    plots.curves([{"x": [0, 1], "xlabel": "epoch", "ylabel": "angle", "series": series, "ylim": (0, 100)}],
                 tmp_path / "some.png")
    assert png_size(tmp_path / "some.png")[0] > 500


def test_one_point_and_one_seed_make_a_figure(tmp_path):
    plots.curves([{"x": [0], "xlabel": "epoch", "ylabel": "angle", "series": {"fa": [[3.0]]}}], tmp_path / "one.png")
    assert png_size(tmp_path / "one.png")[1] > 500


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingError, match=r"matplotlib is not installed.*pip install -e '\.\[plots\]'"):
        plots.pyplot()
