"""Processes that feed and record a Lava network through shared memory.

Lava executes every Python file in the folder of a process, so this folder contains processes only.
"""
