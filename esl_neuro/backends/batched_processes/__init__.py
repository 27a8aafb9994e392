"""Synapses and neurons for many samples at once, as processes of Lava.

Lava executes every Python file that stands beside the file of a process: only processes may live in this folder.
"""
