"""The toolkit itself, and the types of the arguments that its tools share."""

from typing import Annotated

from pydantic import Field

from toolwright_server import Toolkit

toolkit = Toolkit("diagnostics", loopback_only=True)

Seconds = Annotated[float, Field(gt=0, le=3600)]
# Name of a sign-of-life file inside the toolkit's own folder: never a path.
HeartbeatName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
