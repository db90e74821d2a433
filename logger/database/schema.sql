-- Tables of plclogger, version 2, created in the schema that search_path names first. See docs/data.md.
-- What is changed here needs a step in migrations/ too: both ways must end in the same tables.

CREATE TABLE plcsim_schema (
    version    integer PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE devices (
    device_id            text COLLATE "C" PRIMARY KEY,
    name                 text NOT NULL,
    configuration        jsonb NOT NULL,
    configuration_sha256 text NOT NULL,
    registered_at        timestamptz NOT NULL DEFAULT now()
);

-- One row a parameter: how it stands now. Half of each page stays free and nothing that changes is
-- indexed, so that an update stays on its page (HOT) and the row's old versions are pruned there. What
-- is never NULL and of fixed width comes first, then the rest of the key: an update looks at the key, and
-- behind a NULL it would have to walk the row. No foreign key: it would cost a check for each updated
-- row; registering a device guards it.
CREATE TABLE component_parameters (
    scan              bigint NOT NULL DEFAULT 0,  -- that read the newest usable value; 0: none yet
    last_attempt_scan bigint NOT NULL DEFAULT 0,
    parameter_id      integer NOT NULL,
    last_quality      smallint NOT NULL DEFAULT 32,
    device_id         text COLLATE "C" NOT NULL,
    updated_at        timestamptz,                -- when the newest usable value was read
    last_attempt_at   timestamptz,
    current_value     double precision,           -- the newest usable value (quality of 64 and more)
    transaction_id    uuid,                       -- that stored it
    set_value         double precision,
    low_limit         double precision,
    high_limit        double precision,
    component         text NOT NULL,
    name              text NOT NULL,
    unit              text NOT NULL,
    current_text      text,                       -- where a double cannot hold the value
    PRIMARY KEY (device_id, parameter_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 50);

-- Every value of every scan, a partition a day (UTC). None takes what has no partition: rows that are
-- too early or too late are refused (23514), then their day is made, and they are stored.
CREATE TABLE parameter_value_history (
    recorded_at    timestamptz NOT NULL,
    scan           bigint NOT NULL,
    value          double precision,              -- NULL: not read; quality says why
    set_value      double precision,
    transaction_id uuid NOT NULL,
    stream_id      integer NOT NULL,
    parameter_id   integer NOT NULL,
    quality        smallint NOT NULL,
    device_id      text COLLATE "C" NOT NULL,
    value_text     text                           -- strings, and digits that a double cannot hold
) PARTITION BY RANGE (recorded_at);
CREATE INDEX parameter_value_history_by_time ON parameter_value_history (device_id, recorded_at);

CREATE TABLE process_executions (
    device_id  text COLLATE "C" NOT NULL REFERENCES devices,
    process_id uuid NOT NULL,
    stream_id  integer NOT NULL,
    plc_number bigint NOT NULL,                   -- what the PLC calls this execution
    recipe     text NOT NULL,
    first_scan bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz,
    outcome    text,
    PRIMARY KEY (device_id, process_id)
);
CREATE UNIQUE INDEX process_executions_open ON process_executions (device_id, stream_id)
    WHERE ended_at IS NULL;

-- The values of those scans that showed the process running; partitions as above.
CREATE TABLE process_data_points (
    recorded_at    timestamptz NOT NULL,
    scan           bigint NOT NULL,
    value          double precision,
    set_value      double precision,
    transaction_id uuid NOT NULL,
    process_id     uuid NOT NULL,
    stream_id      integer NOT NULL,
    parameter_id   integer NOT NULL,
    quality        smallint NOT NULL,
    device_id      text COLLATE "C" NOT NULL,
    value_text     text
) PARTITION BY RANGE (recorded_at);
CREATE INDEX process_data_points_by_process
    ON process_data_points (device_id, process_id, recorded_at);

-- Where each stream of scans stands. Every transaction first moves its row.
CREATE TABLE logging_streams (
    device_id  text COLLATE "C" NOT NULL REFERENCES devices,
    stream_id  integer NOT NULL,
    last_scan  bigint NOT NULL DEFAULT 0,
    head_hash  bytea NOT NULL,
    writer     uuid,                              -- the spool that owns the stream
    poll_group text NOT NULL DEFAULT '',
    interval_s double precision,
    PRIMARY KEY (device_id, stream_id)
) WITH (fillfactor = 50);

-- The ledger: one row a transaction. Not partitioned: its key alone makes a transaction unique.
CREATE TABLE logging_transactions (
    transaction_id    uuid PRIMARY KEY,
    device_id         text COLLATE "C" NOT NULL,
    stream_id         integer NOT NULL,
    first_scan        bigint NOT NULL,
    last_scan         bigint NOT NULL,
    history_rows      integer NOT NULL,
    process_rows      integer NOT NULL,
    process_id        uuid,
    repository        text NOT NULL,
    logged_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    previous_hash     bytea NOT NULL,
    hash              bytea NOT NULL,
    first_recorded_at timestamptz,                -- of its rows; NULL: it has none, or is of version 1
    last_recorded_at  timestamptz
);

-- Scans that were due and are not stored.
CREATE TABLE scan_gaps (
    device_id      text COLLATE "C" NOT NULL,
    stream_id      integer NOT NULL,
    first_scan     bigint NOT NULL,
    last_scan      bigint NOT NULL,
    reason         text NOT NULL,
    transaction_id uuid NOT NULL,
    first_at       timestamptz,                   -- when the first was due; NULL: nobody knows
    last_at        timestamptz,
    PRIMARY KEY (device_id, stream_id, first_scan)
);

-- Transactions that no longer count. They stay where they are; the views leave them out.
CREATE TABLE compensations (
    transaction_id uuid PRIMARY KEY,              -- the one that was voided
    device_id      text COLLATE "C" NOT NULL,
    stream_id      integer NOT NULL DEFAULT 0,    -- the operators' stream, where the void stands …
    action         bigint NOT NULL,               -- … under this number …
    ledger_id      uuid NOT NULL,                 -- … and with this row of the ledger
    reason         text NOT NULL,
    voided_by      text NOT NULL,
    voided_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Scans that came back from quarantine. Their rows carry the scan's own stream and number, and the
-- transaction of the operators' stream that inserted them.
CREATE TABLE reinsertions (
    device_id text COLLATE "C" NOT NULL,
    stream_id integer NOT NULL,
    scan      bigint NOT NULL,
    ledger_id uuid NOT NULL,
    PRIMARY KEY (device_id, stream_id, scan, ledger_id)
);

-- What happened to the logger: clock steps, drops, take-overs.
CREATE TABLE logger_events (
    event_id    uuid PRIMARY KEY,
    happened_at timestamptz NOT NULL,
    host        text NOT NULL,
    kind        text NOT NULL,
    message     text NOT NULL
);

-- Partitions that retention has taken out of their table, and those that it must leave alone.
CREATE TABLE expired_partitions (
    parent      text NOT NULL,
    partition   text NOT NULL,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    rows        bigint,                           -- counted when it was out
    detached_at timestamptz,                      -- NULL: not out yet
    dropped_at  timestamptz,
    held        text,                             -- why it must stay
    PRIMARY KEY (parent, partition)
);

-- What is written stays: the owner too would have to say so twice. Triggers of statements are not
-- handed down to partitions: each is given its own when it is made.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %: logged records are append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON parameter_value_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON process_data_points
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON logging_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON scan_gaps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON compensations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reinsertions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON logger_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

INSERT INTO plcsim_schema (version) VALUES (2);
