"""Words are compared folded and with or without their accents: texts, file names and names of places.

The old rows stay readable and are searched as well as before; the projector builds all of these read models again.
"""

from alembic import op

revision = "0008_words"
down_revision = "0007_next_try"
branch_labels = None
depends_on = None

_CONFIGS = (
    "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german", "greek",
    "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip
_TEXTS = ("transcript_fts", "ocr_fts")
_LABELS = ("object_labels", "places")


def _tsvector(column: str) -> str:
    configs = " ".join(
        f"WHEN '{config}' THEN to_tsvector('pg_catalog.{config}'::regconfig, {column})" for config in _CONFIGS
    )
    return f"CASE config {configs} ELSE to_tsvector('pg_catalog.simple'::regconfig, {column}) END"


def _generate(expression: str) -> None:
    # Writes the tables anew, some 20,000 texts a second; nothing reads meanwhile.
    op.execute("SET LOCAL statement_timeout = 0")
    for name in _TEXTS:
        op.execute(
            f"""ALTER TABLE read.{name} DROP COLUMN tsv,
                ADD COLUMN tsv tsvector GENERATED ALWAYS AS ({expression}) STORED NOT NULL;
            CREATE INDEX {name}_tsv ON read.{name} USING gin (tsv) WITH (fastupdate = off);"""
        )


def upgrade() -> None:
    """Add the columns."""
    for name in _TEXTS:
        op.execute(
            f"ALTER TABLE read.{name} ADD COLUMN accented text NOT NULL DEFAULT '', ADD COLUMN folded text"
        )
    _generate(
        f"CASE WHEN accented = '' THEN ''::tsvector ELSE setweight({_tsvector('accented')}, 'B') END"
        f" || {_tsvector('words')}"
    )
    for name in _LABELS:
        op.execute(
            f"""CREATE TABLE read.{name}_spellings (
                tenant_id text NOT NULL,
                folded text COLLATE "C" NOT NULL,
                label text COLLATE "C" NOT NULL,
                CONSTRAINT {name}_spellings_pkey PRIMARY KEY (tenant_id, folded, label)
            )"""
        )
        op.execute(
            f"INSERT INTO read.{name}_spellings SELECT DISTINCT tenant_id, lower(label), label"  # noqa: S608
            f" FROM read.{name}_counts"
        )
    op.execute(
        """ALTER TABLE read.videos ADD COLUMN filename_bare text;
        UPDATE read.videos SET filename_bare = filename_folded;
        ALTER TABLE read.videos ALTER COLUMN filename_bare SET NOT NULL;
        ALTER TABLE read.video_locations ADD COLUMN names_folded text, ADD COLUMN names_bare text;
        UPDATE read.video_locations SET names_folded = lower(concat_ws(E'\\n', coalesce(country, ''),
            coalesce(state, ''), coalesce(city, '')));
        UPDATE read.video_locations SET names_bare = names_folded;
        ALTER TABLE read.video_locations ALTER COLUMN names_folded SET NOT NULL,
            ALTER COLUMN names_bare SET NOT NULL;"""
    )


def downgrade() -> None:
    """Take the columns away; rebuild the read models afterwards."""
    _generate(_tsvector("words"))
    for name in _TEXTS:
        op.execute(f"ALTER TABLE read.{name} DROP COLUMN accented, DROP COLUMN folded")
    for name in _LABELS:
        op.execute(f"DROP TABLE read.{name}_spellings")
    op.execute(
        """ALTER TABLE read.videos DROP COLUMN filename_bare;
        ALTER TABLE read.video_locations DROP COLUMN names_folded, DROP COLUMN names_bare;"""
    )
