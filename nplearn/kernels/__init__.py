"""Array functions without state of their own: all that knows about strides and speed, and nothing about rules."""
