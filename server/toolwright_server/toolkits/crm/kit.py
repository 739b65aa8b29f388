"""The toolkit, its settings, and the types of the arguments that its tools share."""

from typing import Annotated, Any, Literal

from pydantic import Field

from toolwright_server import Toolkit, ToolkitSettings


class CrmSettings(ToolkitSettings):
    """`[toolkit.crm]`."""

    # How long a call waits for another that is writing; then it fails with STORE_BUSY and may be repeated.
    busy_timeout_seconds: float = Field(default=2.0, gt=0, le=60)


toolkit: Toolkit[CrmSettings] = Toolkit("crm", settings=CrmSettings)

Stage = Literal["lead", "qualified", "proposal", "negotiation", "won", "lost"]

ContactId = Annotated[
    str, Field(min_length=1, max_length=64, description="Id of the contact, as its creation gave it.")
]
DealId = Annotated[str, Field(min_length=1, max_length=64, description="Id of the deal, as its creation gave it.")]
TagText = Annotated[str, Field(min_length=1, max_length=100, description="The tag; upper and lower case are the same.")]
Name = Annotated[str, Field(min_length=1, max_length=200, description="Full name.")]
Email = Annotated[
    str,
    Field(
        min_length=3,
        max_length=254,
        description="Email address; no two contacts have the same, whatever its case.",
        json_schema_extra={"format": "email"},
    ),
]
Phone = Annotated[
    str, Field(max_length=40, description="Phone number in international form: +49 30 1234567. Kept as +49301234567.")
]
Attributes = Annotated[
    dict[str, Any], Field(max_length=64, description="Anything else: at most 64 keys and 16 KiB as JSON.")
]
