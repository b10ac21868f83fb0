"""A planted fault: a small edit of one source file that the tests must notice."""
from typing import NamedTuple


class Fault(NamedTuple):
    """In `file`, the one place that reads `old` is made to read `new`; `tests` (what pytest is given) must fail.

    hangs  the fault may also make them run for ever
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    hangs: bool = False
