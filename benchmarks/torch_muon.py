"""How far ten steps of `gradsmith.muon` end from those of `torch.optim.Muon`; needs torch.

python benchmarks/torch_muon.py

Each row of `docs/migrating.md`, on a wide and a tall matrix: the largest difference of the weights,
over the largest distance that a weight moved. torch iterates in bfloat16.
"""

import jax.numpy as jnp
import numpy as np
import optax
import torch

import gradsmith as gs

ROWS = {
    "the default": ({}, {"weight_decay": 0.1}),
    "match_rms_adamw": (
        {"adjust_lr_fn": "match_rms_adamw"},
        {"weight_decay": 0.1, "shape_scale": "match_rms"},
    ),
    "without Nesterov": ({"nesterov": False, "weight_decay": 0.0}, {"momentum_kind": "ema"}),
}


def difference(theirs: dict, ours: dict, shape: tuple[int, int], steps: int = 10) -> float:
    draw = np.random.default_rng(0)
    start = draw.standard_normal(shape).astype(np.float32)
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.Muon([weight], lr=0.02, **theirs)
    params = {"weight": jnp.asarray(start)}
    tx = gs.muon(0.02, eps=1e-7, **ours)
    state = tx.init(params)
    for _ in range(steps):
        grad = draw.standard_normal(shape).astype(np.float32)
        weight.grad = torch.tensor(grad)
        optimizer.step()
        updates, state = tx.update({"weight": jnp.asarray(grad)}, state, params)
        params = optax.apply_updates(params, updates)
    end = weight.detach().numpy()
    return float(np.abs(params["weight"] - end).max() / np.abs(end - start).max())


if __name__ == "__main__":
    for name, (theirs, ours) in ROWS.items():
        apart = [difference(theirs, ours, shape) for shape in ((32, 48), (48, 32))]
        print(f"{name:18}", *(f"{x:7.2%}" for x in apart))
