//! Tests of the real binary: see `tests/`. Nothing here is part of the product.
