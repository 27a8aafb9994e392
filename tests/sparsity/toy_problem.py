"""A small classification that a sparse network learns in a second, and the optimisers to learn it with."""

from __future__ import annotations

import torch
from torch import nn

from esl_neuro.sparsity import MaskedAdam, MaskedAdamW

OPTIMISERS = {
    "plain SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "masking Adam": lambda parameters: MaskedAdam(parameters, lr=0.01),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "masking AdamW": lambda parameters: MaskedAdamW(parameters, lr=0.01, weight_decay=0.1),
}
WITH_MOMENTUM = tuple(name for name in OPTIMISERS if name != "plain SGD")


class ToyProblem:
    """Four noisy prototypes of 16 values, told apart by a network with a convolution, a norm and two linear layers."""

    def __init__(self, optimiser="Adam", seed=0):
        self.generator = torch.Generator().manual_seed(seed)
        self.model = nn.Sequential()
        for name, module in (
            ("rows", nn.Unflatten(1, (1, 16))),
            ("conv", nn.Conv1d(1, 4, 3, padding=1)),
            ("norm", nn.BatchNorm1d(4)),
            ("act1", nn.ReLU()),
            ("flat", nn.Flatten()),
            ("fc1", nn.Linear(64, 24)),
            ("act2", nn.ReLU()),
            ("fc2", nn.Linear(24, 4)),
        ):
            self.model.add_module(name, module)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if parameter.dim() > 1:
                    size = parameter[0].numel() ** -0.5
                    parameter.copy_(torch.randn(parameter.shape, generator=self.generator) * size)
                elif name.endswith("bias"):
                    parameter.zero_()
        self.optimizer = OPTIMISERS[optimiser](self.model.parameters())
        self.prototypes = torch.randn(4, 16, generator=self.generator)

    def batch(self, size=32):
        labels = torch.randint(4, (size,), generator=self.generator)
        return self.prototypes[labels] + 0.5 * torch.randn(size, 16, generator=self.generator), labels

    def learn(self, penalty=0.0):
        """One optimiser step, without the learner's."""
        values, labels = self.batch()
        self.optimizer.zero_grad()
        (nn.functional.cross_entropy(self.model(values), labels) + penalty).backward()
        self.optimizer.step()

    def accuracy(self):
        self.model.eval()
        values, labels = self.batch(500)
        correct = (self.model(values).argmax(1) == labels).double().mean().item()
        self.model.train()
        return correct
