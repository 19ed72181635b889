"""A plain second implementation of docs/reading.md, one row at a time, for the tests to compare the product with."""
