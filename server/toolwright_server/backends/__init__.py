"""How tools run: on the event loop, in threads, in killable worker processes."""
