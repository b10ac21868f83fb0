"""Steps of a loop: the largest that no mode grows by.

A rule says `growth(dt)`, the largest factor by which a step of dt takes one of its loop's modes: the loop settles while
that is at most 1. Without leak a mode may stay where it is for ever, at a factor of 1, so a rounding error is let pass.
"""
STEADY = 1 + 1e-9


def largest_step(growth, dt):
    """A step that settles, 1 % below one that does not; looked for between 0 and dt, which does not."""
    low, high = 0.0, dt
    for _ in range(40):
        middle = (low + high) / 2
        if growth(middle) <= STEADY:
            low = middle
        else:
            high = middle
    return 0.99 * low
