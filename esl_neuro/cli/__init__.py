"""The command line: one thin file per command, heavy imports only inside the commands."""
