"""Lava processes of synapses and neurons that compute many samples at once.

Lava executes every Python file in the folder of a process, so this folder contains processes only.
"""
