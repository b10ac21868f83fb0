"""Data: readers of published formats, a set in memory, and batches that are pure functions of seed, epoch and index."""
from nplearn.data.augment import Compose, Flip, Shift
from nplearn.data.cifar import read_cifar
from nplearn.data.dataset import DataSet, load
from nplearn.data.idx import read_idx
from nplearn.data.loader import Loader

__all__ = ["Compose", "DataSet", "Flip", "Loader", "Shift", "load", "read_cifar", "read_idx"]
