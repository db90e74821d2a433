"""Modbus over TCP and TLS: frames, connections, listening."""
