"""What the code believes of the tables is what the migrations made."""

import psycopg
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import migrations
from projectors import PROJECTIONS
from projectors import state as _state  # noqa: F401 - its tables belong to the metadata too
from projectors.metadata import metadata
from projectors.projection import Projection


def test_tables_in_metadata_are_the_tables_in_the_migrated_database(database: str) -> None:
    with migrations.engine(database).connect() as connection:
        connection.execute(sqlalchemy.text("SET search_path = read"))
        connection.dialect.default_schema_name = "read"
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": False, "include_name": lambda *_: True},
        )
        differences = [
            difference
            for difference in compare_metadata(context, metadata)
            if not (difference[0] == "remove_table" and difference[1].name == "alembic_version")
        ]

    assert differences == []


def test_primary_keys_are_those_of_the_metadata(database: str) -> None:
    with psycopg.connect(database) as connection:
        found = dict(
            connection.execute(
                """SELECT c.relname, array_agg(a.attname ORDER BY k.n) FROM pg_index AS i
                JOIN pg_class AS c ON c.oid = i.indrelid
                CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
                WHERE i.indisprimary AND c.relnamespace = 'read'::regnamespace GROUP BY c.relname"""
            ).fetchall()
        )

    assert found == {
        name: list(table.primary_key.columns.keys())
        for name, table in metadata.tables.items()
        if table.primary_key.columns.keys()
    }


def test_every_table_belongs_to_one_projection_and_names_its_tenant() -> None:
    owners: dict[str, list[type[Projection]]] = {name: [] for name in metadata.tables}
    for projection in PROJECTIONS:
        for table in projection.tables:
            owners[table.name].append(projection)
    shared = {"projection_state", "parked"}

    assert {name for name, projections in owners.items() if len(projections) != 1} == shared
    assert all("tenant_id" in table.columns for name, table in metadata.tables.items() if name not in shared)


def test_projections_have_names_of_their_own() -> None:
    names = [projection.name for projection in PROJECTIONS]
    assert len(names) == len(set(names))
