"""The mathematics of training: batch and parameters to a loss, gradients to new parameters.

Everything here is a pure function that can be compiled: no files, no clocks, no data loading.
"""
