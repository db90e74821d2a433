"""Reading a PLC: which requests, when, over which connection, and what their replies mean."""
