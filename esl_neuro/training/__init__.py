"""The training loop, its loss, its checkpoints and the folder it leaves behind."""
