"""Great Expectations: is this file fit to be used, and which of its rows are not.

Holds: the spec, the backend over an ephemeral GX context, and the building of a suite from a reference.

Must not: judge distribution drift (that is Evidently; a shifted but well-formed file passes here), or change the data
it is given.
"""
