"""From a recipe to a priced chip program, as functions: train, compile, run, verify, price, save and open.

Every command calls these functions, and so can your own program: the package re-exports them (``import esl_neuro as
esl``). The input bits, the readout, the learned scales and the time step of a trained network are read from its run
here, so that a caller need not repeat them.
"""
