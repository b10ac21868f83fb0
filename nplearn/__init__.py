"""nplearn: credit assignment that can be read, changed and measured, in plain NumPy (CPU) and CuPy (GPU)."""
from nplearn.kernels import denormals, heap

denormals.flush()                                       # before NumPy starts its threads, hence first
heap.keep()

from nplearn.errors import NplearnError  # noqa: E402
from nplearn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError  # noqa: E402
from nplearn.tape import Tape  # noqa: E402

__version__ = "0.1.0"
__all__ = ["NplearnError", "SigmoidCrossEntropy", "SoftmaxCrossEntropy", "SquaredError", "Tape", "__version__"]
