"""What part of Muon's learning rate its AdamW part should have, by a race on Shakespeare.

gradsmith race --rates 0.01 0.02 0.04 --seeds 1 --out runs/muon_adam_rates
    benchmarks/muon_adam_rates.py:twentieth benchmarks/muon_adam_rates.py:three_twentieths
    benchmarks/muon_adam_rates.py:three_tenths benchmarks/muon_adam_rates.py:six_tenths
"""

import gradsmith as gs


def twentieth(learning_rate):
    """The ratio of KellerJordan/Muon's readme is 3e-4 to 0.02; this is the nearest of ours."""
    return gs.muon(learning_rate, adam_learning_rate=0.05 * learning_rate)


def three_twentieths(learning_rate):
    """Half the default."""
    return gs.muon(learning_rate, adam_learning_rate=0.15 * learning_rate)


def three_tenths(learning_rate):
    """The default."""
    return gs.muon(learning_rate, adam_learning_rate=0.3 * learning_rate)


def six_tenths(learning_rate):
    """Twice the default."""
    return gs.muon(learning_rate, adam_learning_rate=0.6 * learning_rate)


def everywhere(learning_rate):
    """The default, with embedding and head orthogonalized as well, as Optax's does."""
    return gs.muon(learning_rate, roles={"embedding|head/kernel": gs.MatrixAxes(0, 1)})


def full(learning_rate):
    """Everything else at the full rate, as Optax's has it."""
    return gs.muon(learning_rate, adam_learning_rate=learning_rate)


def everywhere_full(learning_rate):
    """Both."""
    roles = {"embedding|head/kernel": gs.MatrixAxes(0, 1)}
    return gs.muon(learning_rate, roles=roles, adam_learning_rate=learning_rate)
