"""plclogger: polls PLCs over Modbus TCP and stores each scan in PostgreSQL, all of it or nothing."""
