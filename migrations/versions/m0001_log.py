"""The event log.

`es.segment` is the order of everything: a row for each stretch of consecutive versions of one stream and kind that
was appended together, under its last global position. What happened is in `es.events`, a row an event, or for
artifacts in `es.batch`, a row a batch. Events and batches are inserted first; `es.place` comes last in the
transaction, takes the one lock there is and writes the segments. So positions are gapless and in commit order, and
nobody waits for anybody's data, only for a few small rows and their commit (ADR-0002).
"""

from alembic import op

revision = "0001_log"
down_revision = None

TABLES = """
CREATE SCHEMA es;

CREATE TABLE es.head (one boolean PRIMARY KEY DEFAULT true CHECK (one));
COMMENT ON TABLE es.head IS 'One row, locked and never updated: each update would leave a version that a foreign long
transaction keeps alive, and appends would get slower with every one (measured: to a quarter after 20,000).';
INSERT INTO es.head DEFAULT VALUES;

CREATE TABLE es.segment (
    position bigint PRIMARY KEY,
    stream_id uuid NOT NULL,
    last_version bigint NOT NULL,
    count integer NOT NULL CHECK (count > 0),
    kind text NOT NULL,
    is_batch boolean NOT NULL,
    size_bytes integer NOT NULL
);
COMMENT ON COLUMN es.segment.position IS 'Of the last event of the segment; the others come before it without gaps.';
COMMENT ON COLUMN es.segment.kind IS 'Topic of the events, or artifact type of the batch.';
CREATE INDEX segment_of_batch ON es.segment (stream_id, last_version) WHERE is_batch;

CREATE TABLE es.events (
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    schema_version smallint NOT NULL,
    tenant_id text NOT NULL,
    recorded_at timestamptz NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
);
ALTER TABLE es.events ALTER state SET COMPRESSION pglz;

CREATE TABLE es.stream (
    stream_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    version bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE es.stream IS 'How far each stream of batches has come; batches go in by compare-and-set on it.';

CREATE TABLE es.batch (
    stream_id uuid NOT NULL,
    last_version bigint NOT NULL,
    count integer NOT NULL CHECK (count BETWEEN 1 AND 10000),
    kind text NOT NULL,
    tenant_id text NOT NULL,
    head bytea NOT NULL,
    codec smallint NOT NULL,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (stream_id, last_version)
);
ALTER TABLE es.batch ALTER body SET STORAGE EXTERNAL;
COMMENT ON COLUMN es.batch.head IS 'JSON: what all artifacts of the batch share.';
COMMENT ON COLUMN es.batch.codec IS '1: body is a zstd frame of a JSON array of items.';
COMMENT ON COLUMN es.batch.digest IS 'BLAKE3 of the head and the uncompressed body: the same versions may come again, not with other content.';

CREATE TABLE es.tracking (application_name text PRIMARY KEY, notification_id bigint NOT NULL) WITH (fillfactor = 50);
COMMENT ON TABLE es.tracking IS 'How far each follower of the log has come.';
"""

IMMUTABLE = """
CREATE FUNCTION es.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of %.% refused: the log only grows', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON es.segment EXECUTE FUNCTION es.refuse();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON es.events EXECUTE FUNCTION es.refuse();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON es.batch EXECUTE FUNCTION es.refuse();
CREATE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON es.head EXECUTE FUNCTION es.refuse();
"""

PLACE = """
CREATE FUNCTION es.place(
    streams uuid[], versions bigint[], counts bigint[], kinds text[], batches boolean[], sizes bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    base bigint;
BEGIN
    PERFORM FROM es.head FOR UPDATE;
    SELECT coalesce(max(position), 0) INTO base FROM es.segment;
    INSERT INTO es.segment (position, stream_id, last_version, count, kind, is_batch, size_bytes)
    SELECT base + sum(c) OVER (ORDER BY o), s, v, c, k, b, z
    FROM unnest(streams, versions, counts, kinds, batches, sizes) WITH ORDINALITY AS u (s, v, c, k, b, z, o);
    SELECT base + sum(c) INTO base FROM unnest(counts) AS c;
    PERFORM pg_notify('eioku_log', base::text);
    RETURN base;
END $$;
COMMENT ON FUNCTION es.place IS 'Gives rows that were inserted in this transaction their positions; returns the last.
Must be the last statement before the commit.';
"""

APPEND = """
CREATE FUNCTION es.append_event(
    stream uuid, version bigint, event_topic text, schema bigint, tenant text, at timestamptz, event_state bytea
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    place bigint;
BEGIN
    INSERT INTO es.events (originator_id, originator_version, topic, schema_version, tenant_id, recorded_at, state)
    VALUES (stream, version, event_topic, schema, tenant, at, event_state);
    PERFORM FROM es.head FOR UPDATE;
    SELECT coalesce(max(position), 0) + 1 INTO place FROM es.segment;
    INSERT INTO es.segment (position, stream_id, last_version, count, kind, is_batch, size_bytes)
    VALUES (place, stream, version, 1, event_topic, false, length(event_state));
    PERFORM pg_notify('eioku_log', place::text);
    RETURN place;
END $$;
COMMENT ON FUNCTION es.append_event IS 'es.append for one event, the most frequent case, at half the cost.';

CREATE FUNCTION es.append(
    ids uuid[], numbers bigint[], topics text[], schemas bigint[], tenants text[], times timestamptz[],
    states bytea[],
    streams uuid[], versions bigint[], counts bigint[], kinds text[], batches boolean[], sizes bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO es.events (originator_id, originator_version, topic, schema_version, tenant_id, recorded_at, state)
    SELECT * FROM unnest(ids, numbers, topics, schemas, tenants, times, states);
    RETURN es.place(streams, versions, counts, kinds, batches, sizes);
END $$;
COMMENT ON FUNCTION es.append IS 'A small append of events in one round trip; returns the last position.';
"""

BATCH = """
CREATE FUNCTION es.put_batch(
    batch_stream uuid, last bigint, n bigint, artifact_type text, tenant text, batch_head bytea, batch_codec bigint,
    batch_digest bytea, batch_body bytea,
    OUT outcome text, OUT place bigint
) LANGUAGE plpgsql AS $$
BEGIN
    IF last = n THEN
        INSERT INTO es.stream (stream_id, tenant_id, version) VALUES (batch_stream, tenant, n) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE es.stream SET version = last WHERE stream_id = batch_stream AND version = last - n;
    END IF;
    IF FOUND THEN
        INSERT INTO es.batch (stream_id, last_version, count, kind, tenant_id, head, codec, digest, body)
        VALUES (batch_stream, last, n, artifact_type, tenant, batch_head, batch_codec, batch_digest, batch_body);
        outcome := 'stored';
        RETURN;
    END IF;
    SELECT version INTO place FROM es.stream WHERE stream_id = batch_stream;
    IF place IS NULL OR place < last - n THEN
        outcome := 'early';
        place := coalesce(place, 0);
        RETURN;
    END IF;
    SELECT s.position INTO place
    FROM es.batch AS b JOIN es.segment AS s ON s.stream_id = b.stream_id AND s.last_version = b.last_version AND s.is_batch
    WHERE b.stream_id = batch_stream AND b.last_version = last AND b.count = n AND b.digest = batch_digest;
    outcome := CASE WHEN FOUND THEN 'known' ELSE 'other' END;
END $$;
COMMENT ON FUNCTION es.put_batch IS 'Stores a batch that is still to be placed. outcome: stored; known (the same is
there, place = its position); early (place = version the stream is at); other (the versions hold something else).';

CREATE FUNCTION es.append_batch(
    batch_stream uuid, last bigint, n bigint, artifact_type text, tenant text, batch_head bytea, batch_codec bigint,
    batch_digest bytea, batch_body bytea,
    OUT outcome text, OUT place bigint
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT p.outcome, p.place INTO outcome, place
    FROM es.put_batch(batch_stream, last, n, artifact_type, tenant, batch_head, batch_codec, batch_digest, batch_body) AS p;
    IF outcome = 'stored' THEN
        place := es.place(ARRAY[batch_stream], ARRAY[last], ARRAY[n], ARRAY[artifact_type], ARRAY[true],
                          ARRAY[length(batch_body)::bigint]);
    END IF;
END $$;
COMMENT ON FUNCTION es.append_batch IS 'One batch in one round trip: es.put_batch, then place = its position if stored.';
"""


def upgrade() -> None:
    for statements in (TABLES, IMMUTABLE, PLACE, APPEND, BATCH):
        op.execute(statements)
