"""Compares the server with a bare gRPC server on the same machine in the same minutes. Never part of a distribution."""
