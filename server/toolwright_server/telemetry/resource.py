"""Who speaks in the traces and metrics: OpenTelemetry's resource, with this server's name and instance.

What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say always wins over what is filled in here.
"""

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

SERVICE_NAME = "toolwright"
_INSTANCE = "service.instance.id"


def server_resource(server_id: str, service_version: str, process_number: int = 0) -> Resource:
    """The environment's resource, completed by service.name, service.instance.id and service.version.

    Processes that share the environment must not be one instance: theirs gets the process's number, where it is not 0.
    """
    said = dict(OTELResourceDetector().detect().attributes)
    if process_number and _INSTANCE in said:
        server_id = f"{said.pop(_INSTANCE)}-{process_number}"
    ours = {"service.name": SERVICE_NAME, _INSTANCE: server_id, "service.version": service_version}
    return Resource.create({key: value for key, value in ours.items() if value and key not in said})
