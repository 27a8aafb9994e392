"""Pre-train the layers of a convolutional network by STDP, without labels, then fine-tune them with the trainer."""

from pathlib import Path

import numpy as np
import torch

import esl_neuro as esl
from esl_neuro.recipes import load_recipe
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.stdp import Stdp, compete, patches, pretrain
from esl_neuro.training.trainer import Trainer

STEPS, BATCH, DECAY, THRESHOLD = 8, 25, 0.5, 0.5
SHORT = ("training.epochs=2", "training.threads=1")

# A run that only stores what STDP learns: at this rate its one epoch changes nothing, and no connection moves.
STORED = ("training.epochs=1", "training.learning_rate=1e-12", "sparsity.end=0", "training.threads=1")
recipe = load_recipe("conv-digits", STORED)
trainer = Trainer.start(recipe, lambda: create_run_folder(Path("pretrained"), recipe))
images = torch.from_numpy(trainer.dataset.train.batch()[:400])
rng = np.random.default_rng(0)
signal = torch.from_numpy(rng.random((STEPS, *images.shape), dtype=np.float32)) < images
signal = signal.float()  # one spike train for each pixel

for layer in trainer.learner.layers[:-1]:  # the readout has labels to learn from
    seen = [patches(signal[:, first : first + BATCH], 3, 1) for first in range(0, len(images), BATCH)]
    weights = layer.weight.detach().flatten(1)  # a view: the network learns in place
    before = weights.clone()
    thresholds = pretrain(weights, seen, Stdp(), threshold=THRESHOLD, decay=DECAY)
    print(f"{layer.name}: weights moved by {(weights - before)[before != 0].abs().mean():.3f} on average")
    fired = torch.cat([compete(batch @ weights.T, thresholds, DECAY) for batch in seen], 1)
    height, width = signal.shape[-2:]
    maps = fired.reshape(STEPS, len(images), height, width, -1).permute(0, 1, 4, 2, 3)
    pooled = torch.nn.functional.max_pool2d(maps.flatten(0, 1), 2 if height > 4 else 1)
    signal = pooled.reshape(STEPS, len(images), *pooled.shape[1:])
trainer.run(lambda *_: None, lambda *_: None)

tuned = esl.train("conv-digits", changes=(*SHORT, f"training.start_from={trainer.folder.path}"), runs="fine-tuned")
alone = esl.train("conv-digits", changes=SHORT, runs="alone")
print(f"test accuracy after two epochs: {tuned.accuracy:.4f} pre-trained, {alone.accuracy:.4f} not")
