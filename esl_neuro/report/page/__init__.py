"""One HTML file that shows a network, what it does, what it costs, and what was verified."""
