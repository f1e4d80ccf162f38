"""Two processes with half the batch each are one process with the whole batch."""

from __future__ import annotations

import gc
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_model
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from training_world import losses, tiny_options, write_custom, write_parts

from hoiclip.training.callbacks import read_log
from hoiclip.training.run import train


def in_processes(work: Callable[..., Any], count: int, *args: Any) -> None:
    """Run ``work(rank, count, *args)`` in so many processes as a launcher would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hoiclip.training.run"])
    processes = [context.Process(target=_launched, args=(work, rank, count, port, *args)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [0] * count


def _launched(work: Callable[..., Any], rank: int, count: int, port: int, *args: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work(rank, count, *args)


# --- loss and gradients ----------------------------------------------------------------------------


def batch(pairs: list[int]) -> dict[str, Any]:
    """Four images of one size in double precision, where rounding hides nothing.

    The processes' shares differ in pairs, labels and absent objects.
    """
    generator = torch.Generator().manual_seed(0)
    labels = []
    for n in pairs:
        wanted = (torch.rand(n, 6, generator=generator) < 0.4).float()
        target = {
            "human_boxes": 0.2 + 0.5 * torch.rand(n, 4, generator=generator),
            "object_boxes": 0.2 + 0.5 * torch.rand(n, 4, generator=generator),
            "object_labels": torch.randint(0, 4, (n,), generator=generator),
            "interaction_labels": wanted,
        }
        if n > 2:
            target["object_boxes"][0] = 0
        labels.append(target)
    return {
        "pixel_values": torch.randn(len(pairs), 3, 64, 64, generator=generator).double(),
        "clip_pixel_values": torch.randn(len(pairs), 3, 32, 32, generator=generator).double(),
        "labels": labels,
    }


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def work_on_a_share(rank: int, count: int, folder: str, pairs: list[int], variant: str) -> None:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=count)
    found = step_on_a_share(rank, count, pairs, variant)
    if rank == 0:
        torch.save(found, Path(folder) / "shared.pt")
    leave_group()


def leave_group() -> None:
    """Once nothing holds on to the group (DistributedDataParallel did) and all are there: gloo can hang otherwise."""
    gc.collect()  # Trainer holds itself in a circle
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def step_on_a_share(rank: int, count: int, pairs: list[int], variant: str) -> dict[str, Any]:
    model = tiny_model(variant=variant, unused_parameters=True).double().train()
    parallel = DistributedDataParallel(model, find_unused_parameters=False)
    whole = batch(pairs)
    share = len(pairs) // count
    mine = {name: values[rank * share : (rank + 1) * share] for name, values in whole.items()}
    out = parallel(**mine)
    out["loss"].backward()
    loss = out["loss"].detach().clone()
    torch.distributed.all_reduce(loss)
    terms = torch.stack(list(out["loss_dict"].values())).detach()
    torch.distributed.all_reduce(terms)
    kept = {name: gradient.clone() for name, gradient in gradients(model).items()}
    return {"loss": loss / count, "terms": terms / count, "gradients": kept}


@pytest.mark.parametrize(
    ("pairs", "variant"),
    [([3, 1, 0, 2], "hoiclip"), ([4, 2, 0, 0], "gen-vlkt"), ([0, 0, 0, 0], "hoiclip")],
    ids=["uneven pairs", "baseline, one process without pairs", "no pairs"],
)
def test_loss_and_gradients_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, pairs: list[int], variant: str
) -> None:
    in_processes(work_on_a_share, 2, str(tmp_path), pairs, variant)
    shared = torch.load(tmp_path / "shared.pt", weights_only=True)
    model = tiny_model(variant=variant, unused_parameters=True).double().train()
    out = model(**batch(pairs))
    out.loss.backward()
    assert shared["loss"].item() == pytest.approx(out.loss.item(), rel=1e-9)
    terms = torch.stack(list(out.loss_dict.values())).detach()
    torch.testing.assert_close(shared["terms"], terms, rtol=1e-9, atol=1e-12)
    expected = gradients(model)
    assert set(shared["gradients"]) == set(expected)
    for name, wanted in expected.items():
        torch.testing.assert_close(shared["gradients"][name], wanted, rtol=1e-6, atol=1e-6, msg=name)


# --- whole runs ------------------------------------------------------------------------------------


def train_together(rank: int, count: int, overrides: list[str]) -> None:
    train("custom", overrides)
    leave_group()


def test_a_run_on_two_processes_trains_evaluates_and_saves_as_one(tmp_path: Path) -> None:
    parts, data = write_parts(tmp_path / "parts"), write_custom(tmp_path / "data", train=9, test=5)
    changes = {
        "data__root": data,
        "data__augment": False,
        "data__shorter": 64,
        "model__dropout": 0.0,  # each process draws its own
        "train__batch_size": 4,
        "train__epochs": 1,
        "train__drop_epoch": 1,
        "train__learning_rate": 1e-6,
        "train__ema": 0.5,
    }
    torch.set_num_threads(1)
    one = train("custom", tiny_options(parts, tmp_path / "one", **changes))
    in_processes(train_together, 2, tiny_options(parts, tmp_path / "two", **changes))
    two = tmp_path / "two"
    assert losses(two).keys() == losses(one).keys() == {1, 2}  # the ninth image fills no batch
    for step, loss in losses(one).items():
        assert losses(two)[step] == pytest.approx(loss, rel=1e-4)
    # five test images on two processes: each is judged once, and as in a single process
    found, expected = ([r for _, r in read_log(run / "log.jsonl") if "eval_full" in r] for run in (two, one))
    assert len(found) == len(expected) == 1
    assert found[0]["eval_full"] == pytest.approx(expected[0]["eval_full"], abs=1e-6)
    checkpoint = {entry.name for entry in (two / "checkpoint-2").iterdir()}
    assert {
        "rng_state_0.pth",
        "rng_state_1.pth",
        "optimizer.pt",
        "moving_average.pt",
        "model.safetensors",
    } <= checkpoint
    # and it goes on from there
    in_processes(train_together, 2, tiny_options(parts, two, **{**changes, "train__epochs": 2, "train__resume": True}))
    assert list(losses(two)) == [1, 2, 3, 4]
