"""`mbm-lab bench browser` measures frames."""

from mbm_lab import bench


def test_every_slider_is_measured_until_it_is_painted():
    rows = bench.frames(moves=12)
    names = [row[0] for row in rows]
    assert len(names) == len(set(names)) == 8
    for what, figure, wanted in rows:
        median, slowest = (float(x) for x in figure.removesuffix(" ms").split(" / "))
        assert 0 < median <= slowest
        assert median < 3 * float(wanted.split()[1]), what
