"""Budgets of a network on a chip that training keeps: what each connection costs, and what fits."""
