"""The tables and their constraints. Every key begins with the tenant: no row of one can point at another's."""

import sqlalchemy as sa

SCHEMA_VERSION = 1
NAME_LIMIT = 200
TITLE_LIMIT = 200
EMAIL_LIMIT = 254
TAG_LIMIT = 64
ATTRIBUTES_LIMIT_BYTES = 16 * 1024
TAGS_PER_CONTACT = 100
DEALS_PER_CONTACT = 200
STAGES = ("lead", "qualified", "proposal", "negotiation", "won", "lost")

metadata = sa.MetaData()


def _stage_check(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(stage) for stage in STAGES)})", name=f"{column}_known")


def _length_check(column: str, most: int) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"length({column}) BETWEEN 1 AND {most}", name=f"{column}_length")


contacts = sa.Table(
    "contacts",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("contact_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("email", sa.Text, nullable=False),
    # The address without its case: what is unique.
    sa.Column("email_key", sa.Text, nullable=False),
    sa.Column("phone", sa.Text),
    sa.Column("attributes", sa.JSON, nullable=False),
    # What results are sorted by and what is searched, both without case.
    sa.Column("name_key", sa.Text, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),
    sa.Column("create_time", sa.Text, nullable=False),
    sa.Column("update_time", sa.Text, nullable=False),
    sa.UniqueConstraint("tenant", "email_key", name="email_unique"),
    _length_check("name", NAME_LIMIT),
    _length_check("email", EMAIL_LIMIT),
    sa.CheckConstraint("phone GLOB '+[1-9]*' AND length(phone) BETWEEN 8 AND 16", name="phone_e164"),
    # Not in characters but in bytes, hence the cast.
    sa.CheckConstraint(f"length(CAST(attributes AS BLOB)) <= {ATTRIBUTES_LIMIT_BYTES}", name="attributes_size"),
    sa.CheckConstraint("json_type(attributes) = 'object'", name="attributes_object"),
    sa.Index("contacts_by_name", "tenant", "name_key", "contact_id"),
    sqlite_with_rowid=False,
)

contact_tags = sa.Table(
    "contact_tags",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("contact_id", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.ForeignKeyConstraint(
        ["tenant", "contact_id"], ["contacts.tenant", "contacts.contact_id"], ondelete="CASCADE", name="tag_of_contact"
    ),
    _length_check("tag", TAG_LIMIT),
    sa.Index("contacts_by_tag", "tenant", "tag"),
    sqlite_with_rowid=False,
)

deals = sa.Table(
    "deals",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("deal_id", sa.Text, primary_key=True),
    sa.Column("contact_id", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("previous_stage", sa.Text),
    sa.Column("amount", sa.BigInteger),
    sa.Column("currency", sa.Text),
    sa.Column("create_time", sa.Text, nullable=False),
    sa.Column("update_time", sa.Text, nullable=False),
    # Deals are never lost by deleting a contact: see contacts.delete.
    sa.ForeignKeyConstraint(
        ["tenant", "contact_id"],
        ["contacts.tenant", "contacts.contact_id"],
        ondelete="RESTRICT",
        name="deal_of_contact",
    ),
    _length_check("title", TITLE_LIMIT),
    _stage_check("stage"),
    _stage_check("previous_stage"),
    sa.CheckConstraint("amount >= 0", name="amount_positive"),
    sa.CheckConstraint("currency GLOB '[A-Z][A-Z][A-Z]'", name="currency_code"),
    sa.CheckConstraint("(amount IS NULL) = (currency IS NULL)", name="amount_has_currency"),
    sa.Index("deals_by_contact", "tenant", "contact_id", "create_time"),
    sqlite_with_rowid=False,
)
