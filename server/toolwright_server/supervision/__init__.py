"""Several processes of one server behind one port: starts them, replaces them, ends them, speaks for the whole.

Never starts gRPC and never runs a tool: what it does not do cannot break it. `link.py` is the other end, in a process.
"""
