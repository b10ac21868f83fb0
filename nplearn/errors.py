"""What goes wrong, said in one form: where, what was found, what was expected, what to do.

    fc2: feedback matrix is 10 x 512; expected 512 x 512; attach the rule after build().

A user of the command line sees this one line and exit status 2. Checks stand at the edges (build, attach,
loaders, checkpoints, command line), never inside kernels.
"""


class NplearnError(Exception):
    """Base of every error that nplearn raises on purpose.

    where     layer path, file and record, or option
    got       what was found there
    expected  what would have been right
    do        what the reader can do about it
    """

    def __init__(self, where, got, expected, do):
        super().__init__(f"{where}: {got}; expected {expected}; {do}.")
        self.where, self.got, self.expected, self.do = where, got, expected, do

    def __reduce__(self):                               # so that it survives a trip between processes
        return type(self), (self.where, self.got, self.expected, self.do)


class BuildError(NplearnError):
    """A net, a layer or a rule does not fit what it was given."""


class SettingError(NplearnError):
    """An option has a name or a value that does not exist."""


class DataError(NplearnError):
    """A data file is missing, damaged or not what its format says."""


class CheckpointError(NplearnError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class TrainingError(NplearnError):
    """Training cannot go on (a loss that is not a number, say)."""


def unwritten(thing, method, path=""):
    """The error of a method, such as "backward(self, d, tape)", that the class of `thing` has to write and has not."""
    kind, name = type(thing), method.partition("(")[0]
    base = next((c.__name__ for c in kind.__mro__[1:] if name in vars(c)), kind.__name__)
    return BuildError(path or kind.__name__, f"class {kind.__name__} without {name}",
                      f"{method}, as {base} describes it", f"write it in {kind.__name__}")
