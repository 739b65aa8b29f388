"""Compares the figures of usage with the history that they are made from."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import grpc

from toolwright.v1 import common_pb2, usage_pb2, usage_pb2_grpc

SECONDS: Final = 30
COUNTS: Final = {
    common_pb2.STATE_SUCCEEDED: "succeeded_count",
    common_pb2.STATE_FAILED: "failed_count",
    common_pb2.STATE_TIMED_OUT: "timed_out_count",
    common_pb2.STATE_CANCELLED: "cancelled_count",
    common_pb2.STATE_REJECTED: "rejected_count",
    common_pb2.STATE_OUTCOME_UNKNOWN: "outcome_unknown_count",
}


def miscounted(address: str, history: Iterable[common_pb2.Execution]) -> list[str]:
    """What usage says otherwise than the whole history, a line each; by tool, and by user and tool."""
    rows = list(history)
    with grpc.insecure_channel(address) as channel:
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        wrong: list[str] = []
        for users in (False, True):
            dimensions = [usage_pb2.USAGE_DIMENSION_TOOL, *[usage_pb2.USAGE_DIMENSION_USER] * users]
            request = usage_pb2.QueryUsageRequest(group_by=dimensions, page_size=1_000)
            usage = stub.QueryUsage(request, timeout=SECONDS).rows
            said = Counter[tuple[str, str, str]]()
            for each in usage:
                for name in COUNTS.values():
                    said[each.tool, each.user_id, name] += getattr(each.figures, name)
            kept = Counter((each.tool, each.user_id * users, COUNTS[each.state]) for each in rows)
            wrong += [
                f"{key}: the history has {kept[key]}, usage says {said[key]}"
                for key in sorted(said.keys() | kept.keys())
                if said[key] != kept[key]
            ]
    return wrong
