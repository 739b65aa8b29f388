"""Generated messages and stubs of toolwright.v1; only this docstring is written by hand."""
