"""gRPC without business: from bytes to a call of a service and back. Knows no tool and no execution."""
