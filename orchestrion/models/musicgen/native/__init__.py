"""Machine code that decoder and codec share, written as LLVM vector code and compiled by numba on this machine."""
