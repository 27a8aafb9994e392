"""The door for files that this process did not write: bounded, without code, and with one line for whatever is wrong.

``documents`` reads JSON and text, ``arrays`` reads ``.npz`` and ``.npy``, ``hdf5`` opens HDF5 files, ``names`` checks
and escapes names, ``limits`` says how much may be read.
"""
