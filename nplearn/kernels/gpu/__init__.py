"""What a GPU does in fewer launches: batched products and kernels of our own, each beside a plain body that defines it.

    launch.py       which arrays our kernels take; how one is compiled, kept and started
    gemm.py         products of stacks of matrices that may overlap        for  matmul in kernels/conv.py
    columns.py      a convolution's shifted copies in one launch                windows in kernels/conv.py
    local.py        patches of a locally connected layer and the way back       kernels/local.py
    norm.py         sums per channel, batch normalisation up and down           kernels/norm.py
    window.py       a sliding window as kernels are told of it
    pool.py         max pooling up and down                                     kernels/pool.py
    activation.py   an error times an activation's slope                        times_slope in layers/activation.py
    optim.py        SGD and Adam over a block of the arena                      update in optim/sgd.py, optim/adam.py

The plain bodies run on a GPU too, with more launches. NPLEARN_KERNELS=plain in the environment leaves all to them: the
first thing to try where a result looks wrong. No module here imports CuPy: it is reached through the arrays.

Sums are taken in a fixed order, without atomics: a step repeats itself to the bit. An update reads one number back to
the host, the mean loss (a Trainer reads a second, how many were right). Not here: graphs of captured launches. CuPy
captures everything but products, and between two products there are no more than a few launches.
"""
