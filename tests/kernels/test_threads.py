import threadpoolctl

from nplearn.kernels import lanes
from nplearn.kernels.threads import use_threads


def test_threads_are_lanes_where_batches_are_cut_and_blas_threads_elsewhere():
    def blas():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    try:
        use_threads(2, laned=True)
        assert lanes.count() == 2 and blas() == {1}
        use_threads(2, laned=False)
        assert lanes.count() == 1 and blas() == {2}
    finally:
        use_threads(1, laned=True)
