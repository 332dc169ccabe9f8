"""Synthetic rows: a Gaussian copula that makes them, and scores that say how good and how private they are.

Holds: the spec, the backend, and two pure modules (`copula`, `quality`) on numpy, scipy and scikit-learn.

Must not: decide whether synthetic rows are used, or mix them into real files.
"""
