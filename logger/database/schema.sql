-- Tables of plclogger, created in the schema that search_path names first. See docs/data.md.

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
-- indexed, so that an update stays on its page (HOT) and the row's old versions are pruned there.
CREATE TABLE component_parameters (
    device_id         text COLLATE "C" NOT NULL REFERENCES devices,
    parameter_id      integer NOT NULL,
    component         text NOT NULL,
    name              text NOT NULL,
    unit              text NOT NULL,
    low_limit         double precision,
    high_limit        double precision,
    set_value         double precision,
    current_value     double precision,           -- the newest good value …
    scan              bigint NOT NULL DEFAULT 0,  -- … the scan that read it
    updated_at        timestamptz,                -- … and when that was; no value yet: NULL
    transaction_id    uuid,
    last_quality      smallint NOT NULL DEFAULT 32,
    last_attempt_scan bigint NOT NULL DEFAULT 0,
    last_attempt_at   timestamptz,
    PRIMARY KEY (device_id, parameter_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 50);

-- Every value of every scan.
CREATE TABLE parameter_value_history (
    recorded_at    timestamptz NOT NULL,
    scan           bigint NOT NULL,
    value          double precision,              -- NULL: not read; quality says why
    set_value      double precision,
    transaction_id uuid NOT NULL,
    stream_id      integer NOT NULL,
    parameter_id   integer NOT NULL,
    quality        smallint NOT NULL,
    device_id      text COLLATE "C" NOT NULL
);
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

-- The values of those scans that showed the process running.
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
    device_id      text COLLATE "C" NOT NULL
);
CREATE INDEX process_data_points_by_process
    ON process_data_points (device_id, process_id, recorded_at);

-- Where each stream of scans stands. Every transaction first moves its row.
CREATE TABLE logging_streams (
    device_id text COLLATE "C" NOT NULL REFERENCES devices,
    stream_id integer NOT NULL,
    last_scan bigint NOT NULL DEFAULT 0,
    head_hash bytea NOT NULL,
    PRIMARY KEY (device_id, stream_id)
) WITH (fillfactor = 50);

-- The ledger: one row a transaction.
CREATE TABLE logging_transactions (
    transaction_id uuid PRIMARY KEY,
    device_id      text COLLATE "C" NOT NULL,
    stream_id      integer NOT NULL,
    first_scan     bigint NOT NULL,
    last_scan      bigint NOT NULL,
    history_rows   integer NOT NULL,
    process_rows   integer NOT NULL,
    process_id     uuid,
    repository     text NOT NULL,
    logged_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    previous_hash  bytea NOT NULL,
    hash           bytea NOT NULL
);

-- Scans that were due and never read.
CREATE TABLE scan_gaps (
    device_id      text COLLATE "C" NOT NULL,
    stream_id      integer NOT NULL,
    first_scan     bigint NOT NULL,
    last_scan      bigint NOT NULL,
    reason         text NOT NULL,
    transaction_id uuid NOT NULL,
    PRIMARY KEY (device_id, stream_id, first_scan)
);

-- What is written stays: the owner too would have to say so twice.
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

INSERT INTO plcsim_schema (version) VALUES (1);
