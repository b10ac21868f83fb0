"""All that knows about strides, speed, threads and memory, and nothing about rules.

    conv pool norm local product        functions of arrays, beside gpu/, where a GPU does them in fewer launches
    window turn                         where a window meets a map; how rows become columns fast
    lanes threads                       who works on which chunk
    workspace heap denormals            scratch, the allocator, the processor's smallest numbers
"""
