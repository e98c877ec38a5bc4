"""`mbm-lab bench browser` measures frames."""

from mbm_lab import bench
from tests.test_bench import assert_quick


def test_every_slider_is_measured_until_it_is_painted():
    assert_quick(bench.frames(moves=12), count=8)
