"""Who speaks in the traces and metrics: OpenTelemetry's resource, with this server's name and instance.

What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say always wins over what is filled in here.
"""

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

SERVICE_NAME = "toolwright"


def server_resource(server_id: str, service_version: str) -> Resource:
    """The environment's resource, completed by service.name, service.instance.id and service.version."""
    said = OTELResourceDetector().detect().attributes
    ours = {"service.name": SERVICE_NAME, "service.instance.id": server_id, "service.version": service_version}
    return Resource.create({key: value for key, value in ours.items() if value and key not in said})
