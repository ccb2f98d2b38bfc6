from aiq_search.space import load_space
from benchmarks.control_plane import asks, growth, rate
from benchmarks.stock import configurations, space_of


def test_the_stock_list_is_fixed_distinct_and_searchable():
    points = configurations(40)
    assert points == configurations(40)
    assert len({tuple(point.values()) for point in points}) == 40
    assert points[:4] == configurations(4)
    assert len(load_space(space_of(points)).enqueue) == 40


def test_rates_and_growth_are_read_off_the_marks():
    rows = [(0, 0.5, 100.0), (250, 10.0, 101.0), (500, 25.0, 103.0)]
    assert rate(rows, 500) == 20
    assert growth(rows, 250, 500) == 8


def test_the_ask_of_tpe_is_timed_through_our_sampler_and_optuna_s():
    times = asks([12, 15], times=1)
    assert list(times) == [12, 15]
    assert all(ours > 0 and own > 0 for ours, own in times.values())
