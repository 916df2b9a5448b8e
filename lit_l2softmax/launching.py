"""How several processes of one command come about, and how all of them come to be told the same.

``--trainer.devices=N`` starts the others when a training begins, Lightning's way: each runs the same command again.
torchrun and SLURM start all of them at once. In both cases the first process alone looks at what the command line means
here - which run is the newest, which checkpoint is not damaged, what the new run is called - and tells the others.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment

from .errors import ConfigError, DataError, NonFiniteError, RunError
from .messages import one_line
from .processes import from_first, place

_HEARD = "LIT_L2SOFTMAX_FIRST_PROCESS"  # what the first process has told those that Lightning starts for it


class Words(NamedTuple):
    """What the first process makes of a command line."""

    arguments: list[str]
    run_name: str


class Cluster(NamedTuple):
    """The processes that torchrun or SLURM has started: ``devices`` on each of ``num_nodes`` machines."""

    devices: int
    num_nodes: int


def cluster() -> Cluster | None:
    """The processes of which this is one; None where nobody has started several.

    Raises:
        ConfigError: where SLURM was asked in a way that Lightning cannot use.
    """
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        return _several(TorchElasticEnvironment(), devices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that srun could be used; who wants one process is not told so
        if not SLURMEnvironment.detect():
            return None
    try:
        environment = SLURMEnvironment()
    except RuntimeError as error:
        raise ConfigError(one_line(error)) from error
    return _several(environment, environment.world_size() // int(os.environ.get("SLURM_NNODES", "1")))


def _several(environment: ClusterEnvironment, devices: int) -> Cluster | None:
    size = environment.world_size()
    if size == 1:
        return None
    if not dist.is_initialized():
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
        gpus = torch.cuda.is_available()
        if gpus:
            torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
        # Lightning takes a group that is there. Words go over gloo, also where tensors go over NCCL.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo", rank=environment.global_rank(), world_size=size
        )
    return Cluster(devices, size // devices)


def rank() -> int:
    """Of this process, from the first of its instructions on."""
    return int(os.environ["LOCAL_RANK"]) if _HEARD in os.environ and "LOCAL_RANK" in os.environ else place().rank


def told(make: Callable[[], Words]) -> Words:
    """What the first process makes of the command line; it alone does.

    Raises:
        whatever ``make`` does, in the first process; a SystemExit of the same status in the others.
    """
    if rank() and _HEARD in os.environ:
        return Words(*json.loads(os.environ[_HEARD]))
    words: Words | None = None
    try:
        if rank() == 0:
            words = make()
    finally:
        words = from_first(words)
    if words is None:
        raise SystemExit(2)
    if place().size == 1:  # those that are started later have no other way to hear of it
        os.environ[_HEARD] = json.dumps(words)
    return words


@contextmanager
def together() -> Iterator[None]:
    """Lets one process speak, and all of them end with it.

    Raises:
        RunError: where another process has ended in the middle of what all of them do.
    """
    mine = rank()
    if mine:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for good
        warnings.showwarning = lambda *_, **__: None
    try:
        yield
    except NonFiniteError:
        _part()
        if mine:
            raise SystemExit(2) from None  # the first process has said it
        raise
    except SystemExit:
        _part()
        raise
    except (ConfigError, DataError, RunError) as error:
        raise type(error)(f"process {mine}: {error}") if mine else error from error.__cause__
    except RuntimeError as error:
        if not is_of_a_peer(error):
            raise
        if mine:
            raise SystemExit(2) from error  # the one that has ended has said why, and the first says that it has
        raise RunError("another process of this command has ended, and with it this one") from error
    else:
        _part()
    finally:
        os.environ.pop(_HEARD, None)


def _part() -> None:
    """Waits for the first process, which writes what is left to be written, and parts from the others in good order.

    Lightning's launcher would kill the first one otherwise; and gloo's threads, left alone, can abort a process that
    ends.
    """
    if place().size > 1:
        try:
            dist.barrier()
        except RuntimeError:  # it is gone
            return
        dist.destroy_process_group()


def is_of_a_peer(error: BaseException) -> bool:
    """Whether an error is what is seen of another process's end."""
    if place().size == 1 or not isinstance(error, RuntimeError):
        return False
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused")
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)
