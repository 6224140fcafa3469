"""Several processes that talk by gloo, for tests; they import PyTorch once, in the server that forks them."""

import multiprocessing
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Without threads of its own, unlike the process of the tests, so that forking it is safe.
multiprocessing.set_forkserver_preload(["torch", "lightning_fabric", "whytransfer.pretraining", "whytransfer.methods"])


def one_process(rank, work, world, folder, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.save(work(rank, world, *arguments), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def in_processes(work, world, folder, *arguments):
    """work(rank, world, *arguments) in each of `world` processes -> their answers (tensors, numbers, dicts) by rank."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    handed = (work, world, str(folder), arguments)
    mp.start_processes(one_process, handed, nprocs=world, start_method="forkserver")
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(world)]
