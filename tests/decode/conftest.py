"""torch keeps to one thread: several test processes with several threads each would mostly wait for one another."""

import torch

torch.set_num_threads(1)
