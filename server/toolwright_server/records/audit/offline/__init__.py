"""Verifies an exported audit trail from the file and the public key alone.

These modules need Python's standard library and `cryptography`, nothing else of Toolwright: copy the folder `offline`
to where the auditor works and run `python -m offline FILE --key PUBLIC`.
"""
