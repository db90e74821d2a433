-- A transaction of your own as an arm of `plcbench quick`: readings in one table, the newest of each
-- parameter in another.
--
--     plcbench quick --a baseline --b examples/own_transaction.sql
--
-- It runs in a schema of the bench's own, which is dropped afterwards. To use a table of yours, name it
-- by --tables plant.readings: a clone of it is made there, and the statements below find it under its
-- name without the schema.

-- plcbench: setup
CREATE TABLE readings (
    device_id    text NOT NULL,
    recorded_at  timestamptz NOT NULL,
    scan         bigint NOT NULL,
    parameter_id integer NOT NULL,
    value        double precision
);
CREATE INDEX ON readings (device_id, recorded_at);
CREATE TABLE latest (
    device_id    text NOT NULL,
    parameter_id integer NOT NULL,
    recorded_at  timestamptz NOT NULL,
    scan         bigint NOT NULL,
    value        double precision,
    PRIMARY KEY (device_id, parameter_id)
) WITH (fillfactor = 50);
CREATE TABLE batches (transaction_id uuid PRIMARY KEY);

-- What may stand in a statement, as %(name)s: device_id, stream_id, transaction_id, first_scan,
-- last_scan, process_number, parameters, and the arrays scan, parameter_id, recorded_at, value,
-- set_value, quality, value_text. Any other % is written %%.

-- plcbench: transaction
INSERT INTO batches VALUES (%(transaction_id)s);
INSERT INTO readings (device_id, recorded_at, scan, parameter_id, value)
SELECT %(device_id)s, * FROM unnest(%(recorded_at)s, %(scan)s, %(parameter_id)s, %(value)s);
INSERT INTO latest AS l (device_id, parameter_id, recorded_at, scan, value)
SELECT %(device_id)s, parameter_id, recorded_at, scan, value
FROM unnest(%(parameter_id)s, %(recorded_at)s, %(scan)s, %(value)s)
    AS new (parameter_id, recorded_at, scan, value)
WHERE scan = %(last_scan)s
ORDER BY parameter_id
ON CONFLICT (device_id, parameter_id) DO UPDATE
SET recorded_at = excluded.recorded_at, scan = excluded.scan, value = excluded.value
WHERE l.scan < excluded.scan;

-- How many of these transactions the tables hold: compared with what the clients were told.

-- plcbench: stored
SELECT count(*) FROM batches;

-- How many things are wrong: 0, if all is well.

-- plcbench: check the newest value of each parameter is the one that is kept
SELECT count(*) FROM latest l
WHERE NOT EXISTS (SELECT FROM readings r WHERE (r.device_id, r.recorded_at, r.parameter_id, r.scan)
                      = (l.device_id, l.recorded_at, l.parameter_id, l.scan)
                  AND r.value IS NOT DISTINCT FROM l.value)
   OR l.scan <> (SELECT max(scan) FROM readings r WHERE r.device_id = l.device_id
                 AND r.recorded_at >= l.recorded_at AND r.parameter_id = l.parameter_id);
