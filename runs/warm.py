"""What the fork server imports once, so that a child starts with it in memory.

Importing alone: nothing here may touch CUDA (a forked child could not use it any more) or start a
thread (a fork copies one thread only). `torch._dynamo` is what building the first optimizer would
otherwise import, 2 s in each child (torch 2.13, 2 CPU cores).
"""

import numpy  # noqa: F401
import psutil  # noqa: F401
import torch
import torch._dynamo
import torch.optim
import torch.utils.flop_counter  # noqa: F401
