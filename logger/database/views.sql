-- Views of plclogger: made after the tables, and made anew by each migration. See docs/data.md.

-- How each parameter stands now. Stale: its last reading was bad, or is older than three intervals of
-- the stream that stored the value (at least 5 s).
CREATE VIEW current_values AS
SELECT c.device_id, c.parameter_id, c.component, c.name, c.unit,
    c.current_value AS value, c.current_text AS text, c.set_value, c.last_quality AS quality,
    c.updated_at, statement_timestamp() - c.updated_at AS age, c.last_attempt_at,
    c.last_quality < 64 OR c.last_attempt_at IS NULL
        OR statement_timestamp() - c.last_attempt_at
           > make_interval(secs => greatest(3 * coalesce(s.interval_s, 0), 5)) AS stale,
    c.low_limit, c.high_limit
FROM component_parameters AS c
LEFT JOIN logging_transactions AS l ON l.transaction_id = c.transaction_id
LEFT JOIN logging_streams AS s ON s.device_id = l.device_id AND s.stream_id = l.stream_id;

-- Every value of a parameter that counts, to be asked with device_id, parameter_id and a range of
-- recorded_at.
CREATE VIEW parameter_trend AS
SELECT h.device_id, h.parameter_id, c.component, c.name, c.unit, h.recorded_at, h.value, h.value_text,
    h.set_value, h.quality, c.low_limit, c.high_limit
FROM parameter_value_history AS h
JOIN component_parameters AS c ON c.device_id = h.device_id AND c.parameter_id = h.parameter_id
WHERE NOT EXISTS (SELECT FROM compensations AS v WHERE v.transaction_id = h.transaction_id);
