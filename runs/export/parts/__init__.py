"""Plain torch classes, of which `runs.export.pieces` copies those that a network needs.

They hold the same numbers under the same names as the classes of `builders`, without its faster
kernels. A module here imports torch, the standard library and its neighbours only; its classes and
functions are copied word for word, so they are written for a reader who sees nothing else of this
project.
"""
