"""The processes that feed and record a Lava network through memory.

Lava executes every Python file that stands beside the file of a process: only processes may live in this folder.
"""
