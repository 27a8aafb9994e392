"""The way from a recipe to a priced chip program as functions: train, compile, run, verify, price, save and open.

Every command calls these, and so does a program: they are re-exported at the top of the package (``import esl_neuro
as esl``). What only a trained run knows - bits of a graded input, readout, the scales it learned with, its time step -
is taken from the run here, so that nobody has to repeat it.
"""
