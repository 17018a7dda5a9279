"""The tables of the read side. They name no schema: the search path decides between live and rebuilt ones."""

from sqlalchemy import MetaData

metadata = MetaData()

READ_SCHEMA = "read"
"""Where the live tables are."""
