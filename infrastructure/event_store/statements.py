"""The log's SQL. Functions `es.…` are explained where they are made: migrations/versions/m0001_log.py."""

_SEGMENTS = "%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::boolean[], %s::bigint[]"

APPEND = f"""
SELECT es.append(%b::uuid[], %b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::timestamptz[], %b::bytea[],
                 {_SEGMENTS.replace("%s", "%b")})
"""
APPEND_EVENT = "SELECT es.append_event(%b, %b::bigint, %b::text, %b::bigint, %b::text, %b::timestamptz, %b)"
_BATCH = "%b, %b::bigint, %b::bigint, %b::text, %b::text, %b, %b::bigint, %b, %b"
APPEND_BATCH = f"SELECT outcome, place FROM es.append_batch({_BATCH})"
PUT_BATCH = f"SELECT outcome, place FROM es.put_batch({_BATCH})"

COPY = """
COPY es.events (originator_id, originator_version, topic, schema_version, tenant_id, recorded_at, state)
FROM STDIN (FORMAT BINARY)
"""
# Simple protocol, one message: between the lock and the commit the server waits for nobody.
PLACE_AND_COMMIT = f"SELECT es.place({_SEGMENTS}); COMMIT"

HEAD = "SELECT max(position) FROM es.segment"

VERSION = """
SELECT coalesce(
    (SELECT max(originator_version) FROM es.events WHERE originator_id = %(stream)s),
    (SELECT version FROM es.stream WHERE stream_id = %(stream)s),
    0)
"""

# Positions have no gaps, so the range bounds the scan of segments; the LIMITs inside keep the planner from ever
# joining whole tables.
SELECT_LOG = """
SELECT coalesce(p.position - p.last_version + e.originator_version, p.position), p.stream_id,
       coalesce(e.originator_version, p.last_version), CASE WHEN p.is_batch THEN p.count ELSE 1 END, p.kind,
       p.is_batch, coalesce(e.tenant_id, b.tenant_id), coalesce(e.schema_version, b.codec), e.recorded_at, b.head,
       coalesce(e.state, b.body)
FROM (
    SELECT s.*,
           sum(s.count) OVER (ORDER BY s.position) - s.count AS events_before,
           sum(s.size_bytes::bigint) OVER (ORDER BY s.position) - s.size_bytes AS bytes_before
    FROM (
        SELECT * FROM es.segment
        WHERE position > %(after)b::bigint AND position <= %(until)b::bigint
          AND (%(kinds)b::text[] IS NULL OR kind = ANY (%(kinds)b::text[]) OR (is_batch AND %(with_batches)b::boolean))
        ORDER BY position LIMIT %(limit)b::bigint
    ) AS s
) AS p
LEFT JOIN LATERAL (
    SELECT originator_version, tenant_id, schema_version, recorded_at, state FROM es.events
    WHERE NOT p.is_batch AND originator_id = p.stream_id AND originator_version <= p.last_version
      AND originator_version > p.last_version - least(p.count, p.position - %(after)b::bigint)
    ORDER BY originator_version LIMIT p.count
) AS e ON true
LEFT JOIN LATERAL (
    SELECT tenant_id, codec, head, body FROM es.batch
    WHERE p.is_batch AND stream_id = p.stream_id AND last_version = p.last_version
    LIMIT 1
) AS b ON true
WHERE p.events_before < %(limit)b::bigint AND p.bytes_before < %(bytes)b::bigint
ORDER BY p.position, e.originator_version
"""

_EVENTS = """
SELECT originator_id, originator_version, topic, state, schema_version, tenant_id, recorded_at FROM es.events
WHERE originator_id = %(stream)b::uuid
  AND originator_version > coalesce(%(gt)b::bigint, -9223372036854775808)
  AND originator_version <= coalesce(%(lte)b::bigint, 9223372036854775807)
ORDER BY originator_version {order} LIMIT %(limit)b::bigint
"""
SELECT_EVENTS = {False: _EVENTS.format(order="ASC"), True: _EVENTS.format(order="DESC")}
"""By whether the newest comes first."""

_BATCHES = """
SELECT 0::bigint, stream_id, last_version, count, kind, true, tenant_id, codec, NULL::timestamptz, head, body
FROM es.batch
WHERE stream_id = %(stream)b::uuid
  AND last_version > coalesce(%(gt)b::bigint, 0)
  AND last_version - count < coalesce(%(lte)b::bigint, 9223372036854775807)
ORDER BY last_version {order} LIMIT %(limit)b::bigint
"""
SELECT_BATCHES = {False: _BATCHES.format(order="ASC"), True: _BATCHES.format(order="DESC")}
