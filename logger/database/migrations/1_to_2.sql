-- From version 1 to 2: history and process rows in partitions, and what else has come to the tables.
-- No row and no hash is changed. The old tables keep their rows and become partitions of the new ones;
-- migration.py attaches them, because their bounds are those of what they hold.

ALTER TABLE parameter_value_history RENAME TO parameter_value_history_v1;
ALTER INDEX parameter_value_history_by_time RENAME TO parameter_value_history_v1_by_time;
ALTER TABLE parameter_value_history_v1 ADD COLUMN value_text text;
CREATE TABLE parameter_value_history (LIKE parameter_value_history_v1) PARTITION BY RANGE (recorded_at);
CREATE INDEX parameter_value_history_by_time ON parameter_value_history (device_id, recorded_at);

ALTER TABLE process_data_points RENAME TO process_data_points_v1;
ALTER INDEX process_data_points_by_process RENAME TO process_data_points_v1_by_process;
ALTER TABLE process_data_points_v1 ADD COLUMN value_text text;
CREATE TABLE process_data_points (LIKE process_data_points_v1) PARTITION BY RANGE (recorded_at);
CREATE INDEX process_data_points_by_process
    ON process_data_points (device_id, process_id, recorded_at);

-- Small, and its columns are in another order now: copied.
ALTER TABLE component_parameters RENAME TO component_parameters_v1;
ALTER INDEX component_parameters_pkey RENAME TO component_parameters_v1_pkey;
CREATE TABLE component_parameters (
    scan              bigint NOT NULL DEFAULT 0,
    last_attempt_scan bigint NOT NULL DEFAULT 0,
    parameter_id      integer NOT NULL,
    last_quality      smallint NOT NULL DEFAULT 32,
    device_id         text COLLATE "C" NOT NULL,
    updated_at        timestamptz,
    last_attempt_at   timestamptz,
    current_value     double precision,
    transaction_id    uuid,
    set_value         double precision,
    low_limit         double precision,
    high_limit        double precision,
    component         text NOT NULL,
    name              text NOT NULL,
    unit              text NOT NULL,
    current_text      text,
    PRIMARY KEY (device_id, parameter_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 50);
INSERT INTO component_parameters (scan, last_attempt_scan, parameter_id, last_quality, updated_at,
    last_attempt_at, current_value, transaction_id, set_value, low_limit, high_limit, device_id,
    component, name, unit)
SELECT scan, last_attempt_scan, parameter_id, last_quality, updated_at, last_attempt_at, current_value,
    transaction_id, set_value, low_limit, high_limit, device_id, component, name, unit
FROM component_parameters_v1;

ALTER TABLE logging_streams
    ADD COLUMN writer     uuid,
    ADD COLUMN poll_group text NOT NULL DEFAULT '',
    ADD COLUMN interval_s double precision;

ALTER TABLE logging_transactions
    ADD COLUMN first_recorded_at timestamptz,
    ADD COLUMN last_recorded_at  timestamptz;

ALTER TABLE scan_gaps
    ADD COLUMN first_at timestamptz,
    ADD COLUMN last_at  timestamptz;

CREATE TABLE compensations (
    transaction_id uuid PRIMARY KEY,
    device_id      text COLLATE "C" NOT NULL,
    stream_id      integer NOT NULL DEFAULT 0,
    action         bigint NOT NULL,
    ledger_id      uuid NOT NULL,
    reason         text NOT NULL,
    voided_by      text NOT NULL,
    voided_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE reinsertions (
    device_id text COLLATE "C" NOT NULL,
    stream_id integer NOT NULL,
    scan      bigint NOT NULL,
    ledger_id uuid NOT NULL,
    PRIMARY KEY (device_id, stream_id, scan, ledger_id)
);

CREATE TABLE logger_events (
    event_id    uuid PRIMARY KEY,
    happened_at timestamptz NOT NULL,
    host        text NOT NULL,
    kind        text NOT NULL,
    message     text NOT NULL
);

CREATE TABLE expired_partitions (
    parent      text NOT NULL,
    partition   text NOT NULL,
    from_at     timestamptz NOT NULL,
    to_at       timestamptz NOT NULL,
    rows        bigint,
    detached_at timestamptz,
    dropped_at  timestamptz,
    held        text,
    PRIMARY KEY (parent, partition)
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON parameter_value_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON process_data_points
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON compensations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reinsertions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON logger_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Who may do what with a table may do the same with the one that has taken its name.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT c.relname, g.privilege_type, g.is_grantable,
            CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee
        FROM pg_class AS c, aclexplode(c.relacl) AS g
        WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND c.relname IN ('parameter_value_history_v1', 'process_data_points_v1', 'component_parameters_v1')
            AND g.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s%s', granted.privilege_type,
            left(granted.relname, -length('_v1')), granted.grantee,
            CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END $$;

DROP TABLE component_parameters_v1;
INSERT INTO plcsim_schema (version) VALUES (2);
