"""Ctrl-C that waits for the end of a step."""
import signal
import threading


class Interrupts:
    """While it holds, a first Ctrl-C only makes it true (the step is finished and saved); a second stops at once."""

    def __init__(self):
        self.came = False

    def __bool__(self):
        return self.came

    def __enter__(self):
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self.note)
        return self

    def __exit__(self, *_):
        if self.main:
            signal.signal(signal.SIGINT, self.before)

    def note(self, number, frame):
        if self.came:
            raise KeyboardInterrupt
        self.came = True
