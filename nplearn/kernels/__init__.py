"""Array functions: all that knows about strides, speed, threads and scratch memory, and nothing about rules."""
